"""MLX programs: the file itself, and what runs it in a process of its own."""
