"""Images of a class by a denoiser (experimental)."""
