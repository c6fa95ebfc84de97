"""Makes models of static vectors: trained on a corpus, or distilled from another model."""
