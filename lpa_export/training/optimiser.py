"""What turns gradients into updates: AdamW, or Muon for the matrices of the encoder.

Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix, so that every direction of it is
learnt at the same pace; its steps are scaled to AdamW's root mean square (Liu et al. 2025), and one
learning rate serves both. Filters, biases, norms and the head stay with AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import nn

__all__ = ["Optimiser", "OptimizerName"]

OptimizerName = Literal["adamw", "muon"]

SMALLEST_SIDE = 64
"""Rows and columns from which a matrix is Muon's: those of heads and gates are too narrow."""

_MOMENTS = ("exp_avg", "exp_avg_sq", "step", "momentum_buffer")


class Optimiser:
    """One or two of torch's optimizers over the trainable `parameters`, by name."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        name: OptimizerName,
        *,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """Weight decay is for matrices and filters, not for biases and norms."""
        self._parameters = parameters
        muons = {key for key, p in parameters.items() if name == "muon" and _is_wide(p)}
        matrices = [parameters[key] for key in parameters if key in muons]
        rest = [p for key, p in parameters.items() if key not in muons]
        groups = [
            {
                "params": [p for p in rest if (p.dim() > 1) == decays],
                "weight_decay": weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=learning_rate, fused=True)
        ]
        if matrices:
            self._parts.append(_Muon(matrices, learning_rate, weight_decay))
        self._owners = {key: self._parts[key in muons] for key in parameters}

    def step(self, learning_rate: float) -> None:
        """Update the weights by their gradients at this rate."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad()

    def moments(self) -> dict[str, torch.Tensor]:
        """What the next step depends on beside weights and gradients, as `kind:parameter`."""
        return dict(self._moments())

    def restore(self, moments: dict[str, torch.Tensor]) -> None:
        """Take back what `moments` gave. KeyError for a parameter that is not trained."""
        for key, tensor in moments.items():
            kind, name = key.split(":", 1)
            parameter = self._parameters[name]
            self._owners[name].state[parameter][kind] = tensor.to(
                tensor.device if kind == "step" else parameter.device
            )

    def _moments(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, parameter in self._parameters.items():
            state = self._owners[name].state[parameter]
            yield from ((f"{kind}:{name}", state[kind]) for kind in _MOMENTS if kind in state)


class _Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` that computes in float32 on a CPU.

    torch's computes in bfloat16 everywhere: where a CPU has no instructions for that, its products
    take twice as long as all the rest of an update.
    """

    MOMENTUM = 0.95
    COEFFICIENTS = (3.4445, -4.7750, 2.0315)
    STEPS = 5

    def __init__(
        self, matrices: list[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; `closure` is not called."""
        for group in self.param_groups:
            rate = group["lr"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - self.MOMENTUM)
                update = self._orthogonal(matrix.grad.lerp(momentum, self.MOMENTUM))
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(update, alpha=-rate * 0.2 * math.sqrt(max(matrix.shape)))

    def _orthogonal(self, update: torch.Tensor) -> torch.Tensor:
        """`update` with singular values of about one, by Newton-Schulz steps."""
        a, b, c = self.COEFFICIENTS
        tall = len(update) > update.shape[1]
        found = update.to(torch.float32 if update.device.type == "cpu" else torch.bfloat16)
        found = found.T if tall else found
        found = found / found.norm().clamp(min=1e-7)
        for _ in range(self.STEPS):
            gram = found @ found.T
            found = torch.addmm(
                found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a
            )
        return found.T if tall else found


def _is_wide(parameter: nn.Parameter) -> bool:
    return parameter.dim() == 2 and min(parameter.shape) >= SMALLEST_SIDE
