"""The choice between two tensors, element by element."""

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _select(call: Call) -> Tensor:
    return torch.where(call.tensor("cond").bool(), call.tensor("a"), call.tensor("b"))


TABLE: dict[str, Handler] = {"select": _select}
