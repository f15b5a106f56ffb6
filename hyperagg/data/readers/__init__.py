"""Readers for the user's own files: tables, texts, images and audio."""
