"""Files of word vectors as other programs write them, read some words at a time."""
