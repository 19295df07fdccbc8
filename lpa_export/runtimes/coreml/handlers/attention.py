"""Attention as one operation (iOS 18)."""

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _scaled_dot_product_attention(call: Call) -> Tensor:
    query, key, value = (call.tensor(name) for name in ("query", "key", "value"))
    mask = call.optional("attn_mask")
    scores = torch.matmul(query, key.mT) * query.shape[-1] ** -0.5
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask
    return torch.matmul(torch.softmax(scores, -1), value)


TABLE: dict[str, Handler] = {"scaled_dot_product_attention": _scaled_dot_product_attention}
