"""ExecuTorch programs: read from their bytes, and run in a process of their own."""
