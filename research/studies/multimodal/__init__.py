"""Several modalities in one model: digits written and spoken, reviews with numbers, speed."""
