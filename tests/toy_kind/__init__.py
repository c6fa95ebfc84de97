"""A kind of encoder in few lines: a text is the mean of its tokens' rows in a table."""
