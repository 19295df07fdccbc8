"""ONNX: one graph, batch and time dynamic, for ONNX Runtime.

Nothing is imported here: running a bundle (`session`) must not wait for torch.
"""
