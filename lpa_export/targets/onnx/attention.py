"""Kept attention as one node of ONNX Runtime's own, where the runtime alone is to run the graph."""

from __future__ import annotations

from torch import Tensor, cat, onnx

from lpa_export.targets.batched import Context, KeyMaskedAttention

__all__ = ["FusedAttention"]


class FusedAttention(KeyMaskedAttention):
    """`com.microsoft.MultiHeadAttention`, which never has the scores of a whole head.

    The node is fast without a mask alone. Padding is masked all the same, for each query has one
    more channel that is always 1, and each key has its bias there. Layers with a position bias are
    written head by head.
    """

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """(B, T, D) -> (B, T, D); outside of an export nothing but zeros reach the output."""
        if self.gate is not None:
            return super().forward(hidden, context)
        key = self.key(hidden).unflatten(2, (self.heads, -1))
        bias = context.bias.transpose(1, 2)[:, :, None].expand(-1, -1, self.heads, -1)
        value = self.value(hidden)
        mixed = onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            [self.query(hidden), cat([key, bias], dim=3).flatten(2), value],
            {"num_heads": self.heads, "scale": 1.0},
            dtype=value.dtype,
            shape=value.shape,
            version=1,
        )
        attended: Tensor = self.output(mixed)
        return attended
