"""Models built from the layers and ops; they know nothing of data or training."""
