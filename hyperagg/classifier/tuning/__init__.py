"""Hyperparameter search for `TextClassifier` by Optuna."""
