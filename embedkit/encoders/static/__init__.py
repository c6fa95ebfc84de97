"""Vectors of words and tokens that no text around them changes: read, written and pooled."""
