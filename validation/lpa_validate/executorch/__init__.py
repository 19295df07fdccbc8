"""What an ExecuTorch program says about itself, read from its bytes without running it."""

__all__: list[str] = []
