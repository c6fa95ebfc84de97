"""What a version is worth: against judgments, without labels, and for less storage."""
