"""How records stand on disk as JSON, so that other releases can read them."""
