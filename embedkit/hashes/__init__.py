"""Hashes of texts, ids and records, and which of many occur more than once."""
