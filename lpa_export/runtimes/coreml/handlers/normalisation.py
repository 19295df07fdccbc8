"""Normalisations. Means and variances are wide (float32), the result is rounded afterwards."""

import torch
from torch import Tensor
from torch.nn import functional

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _layer_norm(call: Call) -> Tensor:
    x, gamma, beta = call.tensor("x"), call.optional("gamma"), call.optional("beta")
    epsilon = call.number("epsilon", 1e-5)
    axes = sorted(axis % x.ndim for axis in call.integers("axes", list(range(x.ndim))))
    if axes == list(range(x.ndim - len(axes), x.ndim)):
        return functional.layer_norm(x, x.shape[axes[0] :], gamma, beta, epsilon)
    centred = x - x.mean(axes, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    centred *= scale
    if gamma is not None:
        centred *= gamma.reshape(shape)
    if beta is not None:
        centred += beta.reshape(shape)
    return centred


def _batch_norm(call: Call) -> Tensor:
    return functional.batch_norm(
        call.tensor("x"),
        call.tensor("mean"),
        call.tensor("variance"),
        call.optional("gamma"),
        call.optional("beta"),
        training=False,
        eps=call.number("epsilon", 1e-5),
    )


def _instance_norm(call: Call) -> Tensor:
    x, gamma, beta = call.tensor("x"), call.optional("gamma"), call.optional("beta")
    axes = list(range(2, x.ndim))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    normal = (x - mean) * torch.rsqrt(variance + call.number("epsilon", 1e-5))
    shape = (-1, *(1,) * len(axes))
    if gamma is not None:
        normal = normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


def _l2_norm(call: Call) -> Tensor:
    x = call.tensor("x")
    energy = x.square().sum((-3, -2, -1), keepdim=True)
    return x * torch.rsqrt(energy + call.number("epsilon", 1e-6))


def _local_response_norm(call: Call) -> Tensor:
    """The window lies over the channels; of rank 3 over the first axis, as Core ML has it."""
    x = call.tensor("x")
    normal = functional.local_response_norm(
        x[None] if x.ndim == 3 else x,
        call.integer("size"),
        call.number("alpha", 1e-4),
        call.number("beta", 0.75),
        call.number("k", 1.0),
    )
    return normal.reshape(x.shape)


TABLE: dict[str, Handler] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "local_response_norm": _local_response_norm,
}
