"""Where a run computes: the CPU, one GPU, or all processes that a launcher started.

Every process holds the whole model and works on its own batches; before each update the gradients
are summed over the processes. So a loss may use the model in any way it likes, which a wrapper
around the model's forward pass would not allow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "Precision",
    "accelerator",
    "in_precision",
    "is_main_process",
    "share_gradients",
    "share_weights",
]

Precision = Literal["fp32", "bf16"]

# The others wait while the main process evaluates and saves.
PATIENCE = timedelta(hours=6)


@cache
def accelerator() -> Accelerator:
    """This process's place in the run. CUDA where it is, else the CPU.

    Apple's GPU is passed over: it has no float64, in which LPA's windows are computed.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    _require_the_group_asked_for()
    return Accelerator(
        mixed_precision="no",  # `in_precision` says which: a process may train in both
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def _require_the_group_asked_for() -> None:
    """LpaError where accelerate's launcher was to start several processes and has started one.

    On a CPU it starts the others through MPI only, and says nothing where there is none.
    """
    asked = "MASTER_ADDR" in os.environ and "ACCELERATE_USE_CPU" in os.environ
    sizes = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    if asked and not any(name in os.environ for name in sizes):
        raise LpaError(
            "accelerate launch --cpu starts one process whatever --num_processes says; start "
            "several with: torchrun --standalone --nproc_per_node N --no-python lpa-train ..."
        )


def is_main_process() -> bool:
    """Whether this process is the one of a launched group that writes and prints."""
    return bool(accelerator().is_main_process)


def share_weights(model: nn.Module) -> None:
    """Give every process the main one's weights."""
    from accelerate.utils import broadcast

    if accelerator().num_processes > 1:
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.copy_(broadcast(tensor.detach().clone()))


def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over the processes; a process without a batch adds nothing."""
    if accelerator().num_processes == 1:
        return
    for parameter in parameters:
        own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = accelerator().reduce(own, reduction="sum")


@contextmanager
def in_precision(precision: Precision, device: str) -> Iterator[None]:
    """Compute inside the block in `precision`; weights, their updates and LPA stay in float32."""
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield
