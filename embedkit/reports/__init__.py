"""What a version's vectors are like, as figures, findings and pictures."""
