"""Aggregation beside baselines on one data set, as `hyperagg compare` shows it."""
