"""What the rows of a sample are about: clusters, and the terms that name them."""
