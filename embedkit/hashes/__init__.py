"""Hashes of records: which of many occur more than once."""
