"""Benchmarks: two sides measured in turn, every figure from a process of its own."""
