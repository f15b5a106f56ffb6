"""What `hyperagg compare` trains beside aggregation."""
