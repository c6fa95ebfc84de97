"""What the rows of a sample are about: clusters, the terms that name them, and a map of them."""
