"""Separators for all targets: the program that is traced, golden clips, the bundle around it."""
