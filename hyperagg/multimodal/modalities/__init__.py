"""Modules that turn images, audio, text, numbers and categories into tokens of one dimension."""
