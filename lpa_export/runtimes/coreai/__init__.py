"""Core AI programs, run by Apple's own interpreter in a process of its own."""
