"""Transformers on torch and on OpenVINO, from a model directory to pooled vectors."""
