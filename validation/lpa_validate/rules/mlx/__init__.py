"""What MLX has no GPU kernel for, by its own source."""
