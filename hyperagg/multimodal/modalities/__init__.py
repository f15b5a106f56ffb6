"""Tokens of images, audio, text, numbers and categories."""
