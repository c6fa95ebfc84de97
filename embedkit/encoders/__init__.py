"""From token ids to vectors: the kinds of encoders, and what all of them share."""
