"""The operations of coremltools that nothing here computes, each with the reason."""

__all__ = ["UNSUPPORTED"]

_LIST = "works on lists of tensors, which only converted TensorFlow loops have"
_RANDOM = "draws random numbers: no two runs agree, so there is nothing to compare"

UNSUPPORTED: dict[str, str] = {
    "_const_symbolic": "lives only inside a conversion; no saved program has it",
    "classify": "puts out labels and a dictionary, not a tensor",
    "conv_quantized": "belongs to the older network format; no saved program has it",
    "crop_resize": "how its boxes are sampled is documented for a part of its modes only",
    "list_gather": _LIST,
    "list_length": _LIST,
    "list_read": _LIST,
    "list_scatter": _LIST,
    "list_write": _LIST,
    "make_list": _LIST,
    "non_maximum_suppression": "what it puts into the rows it has no box for is not documented",
    "random_bernoulli": _RANDOM,
    "random_categorical": _RANDOM,
    "random_normal": _RANDOM,
    "random_uniform": _RANDOM,
}
