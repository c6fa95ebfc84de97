"""Transformers on one unpadded stream of tokens, for GPUs."""
