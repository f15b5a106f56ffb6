"""The models that `hyperagg compare` trains beside aggregation."""
