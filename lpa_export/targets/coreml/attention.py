"""Self-attention that was kept, in (B, C, 1, S), head by head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lpa_export.hosts.parts import Attention
from lpa_export.targets.coreml.channels_first import pointwise, sizes, split_heads
from lpa_export.targets.coreml.padding import Padding
from lpa_export.targets.position_bias import gates_of_heads

__all__ = ["ChannelsFirstAttention"]


class ChannelsFirstAttention(nn.Module):
    """Per head a product of queries and keys, a softmax over the keys, a product with the values.

    The matmuls take their operands as the convolutions leave them, (d, S), and say which is to be
    read transposed. The scale 1 / sqrt(d) is multiplied into the query projection.
    """

    constant: Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.query = pointwise(attention.query)
        with torch.no_grad():
            for parameter in self.query.parameters():
                parameter.mul_(attention.scaling)
        self.key = pointwise(attention.key)
        self.value = pointwise(attention.value)
        self.output = pointwise(attention.output)
        self.gate = None if attention.gate is None else pointwise(gates_of_heads(attention))
        if attention.gate is not None:
            self.register_buffer("constant", attention.gate.constant.detach().view(1, -1, 1, 1))

    def forward(self, hidden: Tensor, padding: Padding) -> Tensor:
        """(1, D, 1, S) -> (1, D, 1, S)."""
        gates = self._gates(hidden)
        parts = (self.query, self.key, self.value)
        mixed = []
        for head, (query, key, value) in enumerate(
            zip(
                *(split_heads(part(hidden), self.heads).split(1, dim=1) for part in parts),
                strict=True,
            )
        ):
            scores = query.transpose(2, 3) @ key + padding.bias
            if gates is not None and padding.by_distance is not None:
                scores = scores + gates[head] * padding.by_distance[:, head : head + 1]
            mixed.append(value @ scores.softmax(dim=-1).transpose(2, 3))
        output: Tensor = self.output(torch.cat(mixed, dim=1).reshape(sizes(hidden)))
        return output

    def _gates(self, hidden: Tensor) -> list[Tensor] | None:
        """How much of the position bias each query takes, (1, 1, S, 1) for each head."""
        if self.gate is None:
            return None
        first, second = torch.sigmoid(self.gate(hidden)).chunk(2, dim=1)
        gates = first * (second * self.constant - 1.0) + 2.0
        return [gate.transpose(2, 3) for gate in gates.split(1, dim=1)]
