"""A slow LPA in float64: one loop over frames, heads, pulses and keys, nothing shared with torch.

It reads the weights of a layer by their names and follows the equations one frame at a time.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch

from lpa_export.layers import LPA, LPAConfig

Oracle = Callable[..., dict[int, np.ndarray]]
MakeLayer = Callable[..., LPA]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _gates(
    a: float, b: float, n: int, temperature: float | None, *, latest: float | None = None
) -> list[float]:
    """Weight of each of n frames under the window [a, b), hard where there is no temperature.

    A soft lower edge is clipped to `latest`, n - 1 if None.
    """
    if temperature is None:
        start = max(0, min(math.ceil(a - 0.5), n - 1))
        end = max(start + 1, min(math.ceil(b - 0.5), n))
        return [1.0 if start <= s < end else 0.0 for s in range(n)]
    a = min(a, n - 1 if latest is None else latest)
    b = max(b, a + 1, 1)
    return [
        _sigmoid((s + 0.5 - a) / temperature) * _sigmoid((b - s - 0.5) / temperature)
        for s in range(n)
    ]


def _slow_lpa(
    layer: LPA,
    hidden: np.ndarray,
    *,
    temperature: float | None,
    frames: Iterable[int] | None = None,
) -> dict[int, np.ndarray]:
    """Output (D,) of each of `frames` (all if None) for the valid hidden states (n, D)."""
    config = layer.config
    weights = {name: tensor.double().numpy() for name, tensor in layer.state_dict().items()}
    n, width = hidden.shape
    heads, size, pulses = config.num_heads, width // config.num_heads, config.pulses
    values = (hidden @ weights["value.weight"].T + weights["value.bias"]).reshape(n, heads, size)

    def mean(gates: list[float], h: int) -> np.ndarray:
        return sum(g * values[s, h] for s, g in enumerate(gates)) / sum(gates)

    def basis_gates(h: int, k: int) -> list[float]:
        centre = _sigmoid(weights["positional.centre"][h, k])
        half = _sigmoid(weights["positional.half_width"][h, k]) / 2
        return _gates((centre - half) * n, (centre + half) * n, n, temperature)

    def tooth_gates(h: int, k: int, t: int) -> list[float]:
        period = math.exp(weights["periodic.log_period"][h, k])
        period = min(max(period, config.min_period), config.max_period)
        phase = weights["periodic.phase"][h, k]
        tooth = 1 + (period - 1) * _sigmoid(weights["periodic.duty"][h, k])
        start = phase + math.floor((t + 0.5 - phase) / period) * period
        # The tooth of a valid frame begins before that frame's centre: no clip is needed.
        return _gates(start, start + tooth, n, temperature, latest=math.inf)

    basis = {}
    for h in range(heads):
        for k in range(config.positional):
            gates = basis_gates(h, k)
            basis[h, k] = gates, mean(gates, h)

    def context_of(t: int) -> np.ndarray:
        context = np.zeros(width)
        for tap in range(config.kernel_size):
            s = t + tap - config.kernel_size // 2
            if 0 <= s < n:
                context += weights["context.weight"][:, 0, tap] * hidden[s]
        return context

    anchored = {}
    if config.anchor == "utterance" and config.aperiodic:
        mean_context = sum(context_of(t) for t in range(n)) / n
        said = weights["utterance.windows.weight"] @ mean_context
        said = said + weights["utterance.windows.bias"]
        for h in range(heads):
            for k in range(config.aperiodic):
                centre = _sigmoid(said[h * config.aperiodic + k])
                half = _sigmoid(said[(heads + h) * config.aperiodic + k]) / 2
                gates = _gates((centre - half) * n, (centre + half) * n, n, temperature)
                anchored[h, k] = mean(gates, h)

    outputs = {}
    for t in range(n) if frames is None else frames:
        logits = weights["controls.weight"] @ context_of(t) + weights["controls.bias"]
        moving = 0 if anchored else heads * config.aperiodic
        offsets, widths, amplitudes = np.split(logits, [moving, 2 * moving])
        mixed = np.zeros((heads, size))
        for h in range(heads):
            a = [_sigmoid(x) for x in amplitudes[h * pulses : (h + 1) * pulses]]
            for k in range(config.aperiodic):
                if anchored:
                    mixed[h] += a[k] * anchored[h, k]
                    continue
                c = config.max_offset * math.tanh(offsets[h * config.aperiodic + k])
                w = _sigmoid(widths[h * config.aperiodic + k])
                w = config.min_width + (config.max_width - config.min_width) * w
                gates = _gates(t + 0.5 + c - w / 2, t + 0.5 + c + w / 2, n, temperature)
                gates = [g if abs(s - t) <= config.band else 0.0 for s, g in enumerate(gates)]
                mixed[h] += a[k] * mean(gates, h)
            for k in range(config.periodic):
                mixed[h] += a[config.aperiodic + k] * mean(tooth_gates(h, k, t), h)
            for k in range(config.positional):
                gates, collected = basis[h, k]
                mixed[h] += a[config.aperiodic + config.periodic + k] * gates[t] * collected
        outputs[t] = weights["output.weight"] @ mixed.ravel() + weights["output.bias"]
    return outputs


@pytest.fixture(scope="session")
def slow_lpa() -> Oracle:
    return _slow_lpa


def _make_layer(seed: int = 0, *, spread: float = 0.3, **sizes: int | float) -> LPA:
    """A layer in float64 with all parameters moved away from their tidy start."""
    chosen: dict[str, int | float] = {
        "hidden_size": 6,
        "num_heads": 2,
        "kernel_size": 5,
        "max_offset": 6.5,
        "max_width": 9.0,
        **sizes,
    }
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = LPA(LPAConfig(**chosen)).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(spread * noise)
    return layer.requires_grad_(False)


@pytest.fixture(scope="session")
def make_layer() -> MakeLayer:
    return _make_layer
