"""Training: the classifier's own loop, its two ways of stepping, and the estimator around them."""
