"""What the products share and that knows none of them."""
