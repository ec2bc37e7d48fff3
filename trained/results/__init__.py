"""What a training leaves, and what is told of it."""
