"""The operations of coremltools that nothing here computes, each with the reason."""

__all__ = ["UNSUPPORTED"]

UNSUPPORTED: dict[str, str] = {
    "_const_symbolic": "lives only inside a conversion; no saved program has it",
    "classify": "puts out labels and a dictionary, not a tensor",
    "conv_quantized": "belongs to the older network format; no saved program has it",
    "non_maximum_suppression": "what it puts into the rows it has no box for is not documented",
}
