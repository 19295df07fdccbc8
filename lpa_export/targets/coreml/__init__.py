"""Core ML: a front end of any length, and encoders of fixed shapes for the Neural Engine.

Nothing is imported here: what runs or checks a bundle must not wait for torch or coremltools.
"""
