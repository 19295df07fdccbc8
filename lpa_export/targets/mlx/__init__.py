"""MLX: a trace per bucket in one file, and the model of any length in mlx and numpy alone.

Nothing is imported here: `lpa_export.targets.mlx.model` is to work without torch.
"""
