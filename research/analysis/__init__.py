"""Numbers and figures about trained models, sums and generated images."""
