"""Indexes and bulk files of a version, for other systems to search, a module for each kind."""
