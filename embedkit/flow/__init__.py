"""The flow as plain functions, without an engine: prepare, read, encode, write, complete."""
