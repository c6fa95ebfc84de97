"""What is asked of finished versions: nearest rows to vectors and to texts."""
