"""From rows of several modalities to a model."""
