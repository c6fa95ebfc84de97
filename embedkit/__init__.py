"""Turns a text corpus into an embedding dataset with Apache Beam and Ray."""
