"""ExecuTorch: one program for the CPU, any length, or fixed lengths for accelerators.

Nothing is imported here: torch and executorch come when the target is used.
"""
