"""Several modalities in one model: written and spoken digits, reviews with numbers, subsets."""
