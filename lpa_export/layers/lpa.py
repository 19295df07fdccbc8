"""The Learnable Pulse Accumulator as a drop-in for self-attention. *Our formulation.*

The method is arXiv:2603.16922; its equations, pulse counts and code are not public in a form that
we could read, so what follows is ours. Per head, K pulses each give frame t a window of time, and
the layer averages the values inside:

    y(t) = sum_k a_k(t) m_k(t),   m_k(t) = sum_s g_k(t, s) v(s) / sum_s g_k(t, s),

s over the n valid frames of the utterance; v = x W_v + b_v; amplitudes a_k(t) = sigmoid(.) of a
context u = depthwise convolution of x over time. The heads are concatenated and projected by W_o.

Windows, in frames (frame s covers [s, s + 1)):

- *aperiodic*: from u(t), offset c = R tanh(.), width w = w_min + (w_max - w_min) sigmoid(.);
  window [t + 1/2 + c - w/2, t + 1/2 + c + w/2). Soft gates reach |s - t| <= L = R + w_max/2 only.
- *periodic*: period P = exp(.) within bounds, phase phi, tooth width 1 + (P - 1) sigmoid(.), so
  that a tooth never falls under a frame; frame t uses tooth j = floor((t + 1/2 - phi) / P), which
  covers [phi + jP, phi + jP + width). The same for every content.
- *positional*: centre mu = sigmoid(.), half-width rho = sigmoid(.) / 2 as shares of the utterance;
  window [(mu - rho) n, (mu + rho) n). One mean m_k per utterance, collected under the gate and
  given back through the same gate: y(t) += a_k(t) g_k(t) m_k.

With `anchor: utterance` the aperiodic windows lie at places of the utterance that its content
chooses, the same for all its frames: `utterance_pulses` states that form.

Soft gates (training): g = sigmoid((s + 1/2 - a) / tau) sigmoid((b - s - 1/2) / tau), the edges
clipped to a' = min(a, n - 1), b' = max(b, a' + 1, 1), which keeps the centre of a valid frame in
each window: the sum of g never vanishes, and the limit tau -> 0 is the hard form exactly. A tooth
keeps a' = a: it begins at or before t + 1/2, so that its window holds a valid centre anyway, and
one gate can serve utterances of all lengths.

Hard gates (inference): s is inside iff a <= s + 1/2 < b, as integers start = ceil(a - 1/2), clipped
to [0, n - 1], and end = ceil(b - 1/2), clipped to [start + 1, n]; means come from prefix sums in
float64. Windows that do not depend on the content are computed in float64 in either form.

Frames that are padding never enter a sum: they are zeroed before the convolution and in the
values, whatever they hold (NaN too). Outputs at padding are zero.
"""

import torch
from torch import Tensor, nn

from lpa_export.layers.accelerator import accelerated_mix
from lpa_export.layers.config import LPAConfig
from lpa_export.layers.controls import Controls, initialise_controls, read_controls
from lpa_export.layers.fixed_pulses import PeriodicPulses, PositionalPulses, Shares, Teeth
from lpa_export.layers.hard import hard_mix
from lpa_export.layers.soft import (
    aperiodic_means,
    clip_edges,
    periodic_means,
    positional_gates,
    weighted_means,
)
from lpa_export.layers.utterance_pulses import (
    UtterancePulses,
    hard_utterance_means,
    soft_utterance_means,
)

CONTEXT_NOISE = 0.02


class LPA(nn.Module):
    """One layer, D -> D; see the module's docstring for the equations.

    `temperature` (frames) is that of the soft gates; `hard` switches to the inference form. Both
    are plain attributes: they are no parameters and are not in the state dict.
    """

    def __init__(self, config: LPAConfig) -> None:
        super().__init__()
        self.config = config
        self.temperature = 1.0
        self.hard = False
        width = config.hidden_size
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        # No bias: it would be a second one in front of the linear map of the controls.
        self.context = nn.Conv1d(
            width,
            width,
            config.kernel_size,
            padding=config.kernel_size // 2,
            groups=width,
            bias=False,
        )
        self.controls = nn.Linear(width, config.controls)
        anchored = config.aperiodic - config.moving
        self.utterance = UtterancePulses(config) if anchored else None
        self.periodic = PeriodicPulses(config) if config.periodic else None
        self.positional = PositionalPulses(config) if config.positional else None
        initialise_controls(self.controls, config)
        with torch.no_grad():
            self.context.weight.normal_(std=CONTEXT_NOISE)
            self.context.weight[:, :, config.kernel_size // 2] += 1.0

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Mix frames of hidden (B, T, D); returns (B, T, D).

        valid: bool (B, T), the first n frames of each utterance True; None: all are valid.
        Under autocast the layer computes in the precision of its own weights: positions in time
        are numbers up to thousands, of which bfloat16 tells 256 apart.
        """
        device = hidden.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self.forward(hidden.to(self.value.weight.dtype), valid)
        if valid is not None:
            hidden = hidden.masked_fill(~valid[..., None], 0.0)
        context = self._context(hidden)
        values, controls, lengths = self._read(hidden, context, valid)
        mix = self._hard_mix if self.hard else self._soft_mix
        if self.utterance is None:
            mixed = mix(values, controls, lengths)
        else:
            own, others = controls.amplitudes.tensor_split((self.config.aperiodic,), dim=-1)
            shares = self.utterance.shares(context, lengths)
            mixed = self._utterance_mix(values, shares, own, lengths)
            if others.shape[-1]:
                mixed = mixed + mix(values, controls._replace(amplitudes=others), lengths)
        mixed = self.output(mixed.flatten(2))
        return mixed if valid is None else mixed.masked_fill(~valid[..., None], 0.0)

    def read(self, hidden: Tensor, valid: Tensor | None) -> tuple[Tensor, Controls, Tensor]:
        """Values (B, T, H, d), controls and lengths (B,) of hidden that is zero at padding."""
        return self._read(hidden, self._context(hidden), valid)

    def utterance_shares(self, hidden: Tensor, lengths: Tensor) -> Shares | None:
        """Windows (B, H, K_a) anchored to the utterance, hidden zero at padding; None: no such."""
        if self.utterance is None:
            return None
        return self.utterance.shares(self._context(hidden), lengths)

    def _context(self, hidden: Tensor) -> Tensor:
        """u: (B, T, D) in and out."""
        context: Tensor = self.context(hidden.transpose(1, 2)).transpose(1, 2)
        return context

    def _read(
        self, hidden: Tensor, context: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Controls, Tensor]:
        batch, frames, _ = hidden.shape
        values = self.value(hidden)
        if valid is None:
            lengths = torch.full((batch,), frames, dtype=torch.int64, device=hidden.device)
        else:
            values = values * valid[..., None]
            lengths = valid.sum(dim=1)
        controls = read_controls(self.controls(context), self.config)
        return values.unflatten(-1, (self.config.num_heads, -1)), controls, lengths

    def _utterance_mix(
        self, values: Tensor, shares: Shares, amplitudes: Tensor, lengths: Tensor
    ) -> Tensor:
        """Part (B, T, H, d) of the pulses anchored to the utterance; amplitudes (B, T, H, K_a)."""
        if self.hard:
            means = hard_utterance_means(values, shares, lengths)
        else:
            means = soft_utterance_means(values, shares, lengths, self.temperature)
        return (amplitudes.transpose(1, 2) @ means).transpose(1, 2)

    def _soft_mix(self, values: Tensor, controls: Controls, lengths: Tensor) -> Tensor:
        """Soft mixture (B, T, H, d) of values (B, T, H, d)."""
        frames = values.shape[1]
        frame = torch.arange(frames, device=values.device)
        present = (frame < lengths[:, None]).to(values.dtype)[:, :, None, None]
        weighted = torch.cat([values, present.expand(-1, -1, values.shape[2], 1)], dim=-1)
        weighted = weighted.transpose(1, 2).contiguous()
        amplitudes = controls.amplitudes.permute(0, 2, 3, 1)[..., None]
        counts = (self.config.moving, self.config.periodic, self.config.positional)
        aperiodic, periodic, positional = amplitudes.split(counts, dim=2)
        parts = []
        if self.config.moving:
            lower, upper = self.soft_edges(controls, lengths)
            means = aperiodic_means(
                weighted, lower, upper, temperature=self.temperature, band=self.config.band
            )
            parts.append((aperiodic * means).sum(2))
        if self.periodic is not None:
            teeth = self.periodic.teeth(values.dtype)
            means = periodic_means(weighted, *teeth, temperature=self.temperature)
            parts.append((periodic * means).sum(2))
        if self.positional is not None:
            shares = self.positional.shares(values.dtype)
            gates = positional_gates(*shares, lengths, frames, self.temperature)
            means = weighted_means(gates @ weighted)
            parts.append((positional[..., 0] * gates).transpose(2, 3) @ means)
        return sum(parts[1:], parts[0]).transpose(1, 2)

    def soft_edges(self, controls: Controls, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Clipped aperiodic edges relative to the centre of each frame, (B, H, K_a, T)."""
        lower, upper = (edge.permute(0, 2, 3, 1) for edge in (controls.lower, controls.upper))
        centre = torch.arange(lower.shape[-1], device=lower.device, dtype=lower.dtype) + 0.5
        length = lengths.to(lower.dtype)[:, None, None, None]
        return clip_edges(lower, upper, length, origin=centre)

    def _hard_mix(self, values: Tensor, controls: Controls, lengths: Tensor) -> Tensor:
        """Hard mixture (B, T, H, d) of values (B, T, H, d)."""
        teeth, shares = self.fixed_windows()
        # A gradient goes through the exact form alone.
        fast = values.is_cuda and not (torch.is_grad_enabled() and values.requires_grad)
        mix = accelerated_mix if fast else hard_mix
        return mix(values, controls, lengths, teeth=teeth, shares=shares)

    def fixed_windows(self) -> tuple[Teeth | None, Shares | None]:
        """Content-independent windows in float64; None where a family has no pulse."""
        return (
            None if self.periodic is None else self.periodic.teeth(torch.float64),
            None if self.positional is None else self.positional.shares(torch.float64),
        )
