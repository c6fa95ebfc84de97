"""How the vectors of a version lie to those of the version before it."""
