"""Cross-encoders: transformers that read a pair of texts and give it a score per label."""
