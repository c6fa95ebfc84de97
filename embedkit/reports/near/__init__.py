"""Near duplicates: cells of alike vectors, the close pairs inside them, the groups these join."""
