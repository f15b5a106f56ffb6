"""Studies: each trains and measures models, and writes results.json, tables and figures."""
