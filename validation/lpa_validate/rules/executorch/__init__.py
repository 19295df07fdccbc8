"""What an ExecuTorch program delegates, held against what its export states."""
