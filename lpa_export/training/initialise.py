"""What an LPA starts as: at random, with the attention's projections, or with its windows too.

Fitted windows. An LPA head gives frame t the weight sum_k a_k g_k(t, s) / sum_s g_k(t, s) of
frame s. Its pulses are chosen, one after another and then each again beside the others, from a
grid of windows, so that this weight is nearest (least squares) to the mean attention weight of the
head: aperiodic pulses and then periodic ones to the weight by distance, positional ones to the
weight by place of pairs that no aperiodic pulse reaches. What a fit cannot say (the phase of
a tooth, which an average over frames does not show) stays as it is.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lpa_export.layers import LPA, LPAConfig
from lpa_export.layers.fixed_pulses import MAX_HALF_WIDTH
from lpa_export.training.attention_profile import CELLS, AttentionProfile

__all__ = ["Initialisation", "initial_lpa", "pursue"]

Initialisation = Literal["none", "projections", "attention"]

# A parameter at its very bound would have no gradient.
AMPLITUDES = (0.05, 0.95)
MARGIN = 0.02
OFFSET_SHARE = 0.95
ROUNDS = 4
WIDTHS, CENTRES = 24, 128
PERIODS, DUTIES = 16, (0.25, 0.5, 0.75, 0.95)


class Windows(NamedTuple):
    """A grid of C windows: parameters by name, (C,) each, and the weight each gives, (C, N)."""

    parameters: dict[str, np.ndarray]
    weights: np.ndarray


def initial_lpa(
    attention: Any,
    config: LPAConfig,
    how: Initialisation,
    profile: AttentionProfile | None = None,
) -> LPA:
    """An LPA to stand in for `attention`; `profile` is needed where `how` is `attention`."""
    lpa = LPA(config)
    if how != "none":
        pairs: tuple[tuple[nn.Linear, Any], ...] = (
            (lpa.value, attention.v_proj),
            (lpa.output, attention.out_proj),
        )
        for ours, theirs in pairs:
            ours.load_state_dict(theirs.state_dict())
    if how == "attention":
        if profile is None:
            raise ValueError("windows are fitted to an attention profile, found none")
        _fit_windows(lpa, profile)
    return lpa


@torch.no_grad()
def _fit_windows(lpa: LPA, profile: AttentionProfile) -> None:
    """Set the biases of the controls and the content-independent windows, head by head."""
    config = lpa.config
    boxes, teeth = _boxes(config), _teeth(config)
    every = np.ones(profile.relative.shape[1])
    # The biases of the controls are what a pulse does at a frame whose context is zero: the
    # weights behind them stay small, so every frame starts from these windows.
    # Far weight is spread over the utterance: where positional pulses can give it, no local one
    # is to stand for it.
    far = profile.far if config.positional else np.zeros(config.num_heads)
    # Windows anchored to the utterance stay as they are: no distance from a frame tells of them.
    local = config.num_heads * config.moving
    # The order in which `read_controls` takes them: all offsets, all widths, all amplitudes.
    bias = lpa.controls.bias
    offsets, widths = bias[: 2 * local].view(2, config.num_heads, config.moving)
    gains = bias[2 * local :].view(config.num_heads, -1)
    first, second = config.aperiodic, config.aperiodic + config.periodic
    for head in range(config.num_heads):
        # First what lies near, by distance: a window each for the peaks of the mean attention.
        target = profile.relative[head] - far[head]
        near, amplitudes = pursue(target, every, boxes.weights, config.moving)
        offsets[head] = _chosen(boxes, "offset", near)
        widths[head] = _chosen(boxes, "width", near)
        gains[head, : config.moving] = _logits(amplitudes)
        if lpa.periodic is not None:
            # Teeth take what the windows left over, so that no weight is given twice.
            rest = target - amplitudes @ boxes.weights[near]
            repeated, amplitudes = pursue(rest, every, teeth.weights, config.periodic)
            _set_teeth(lpa, head, teeth, repeated)
            gains[head, first:second] = _logits(amplitudes)
        if lpa.positional is not None and profile.pairs.any():
            # Then what lies far, by place in the utterance; short clips have no such pairs.
            bases = _bases()
            places, pairs = profile.places[head].ravel(), profile.pairs.ravel()
            spread, amplitudes = pursue(places, pairs, bases.weights, config.positional)
            lpa.positional.centre[head] = _chosen(bases, "centre", spread)
            lpa.positional.half_width[head] = _chosen(bases, "half_width", spread)
            gains[head, second:] = _logits(amplitudes)


def pursue(
    target: np.ndarray, importance: np.ndarray, weights: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (count,) and amplitudes (count,) of the windows that together are nearest to target.

    target, importance: (N,); weights: (C, N), what a window of amplitude one gives. Each window
    is chosen beside the others, `ROUNDS` times over: matching pursuit with replacement.
    """
    indices, amplitudes = np.zeros(count, dtype=np.int64), np.zeros(count)
    energy = (weights**2) @ importance
    for _ in range(ROUNDS):
        for pulse in range(count):
            # The pulse is taken out before it is chosen again beside the others.
            amplitudes[pulse] = 0.0
            rest = (target - amplitudes @ weights[indices]) * importance
            match = weights @ rest
            # Least squares for one window w: <rest, w> / <w, w>, within what a sigmoid reaches.
            best = np.clip(match / np.maximum(energy, 1e-12), *AMPLITUDES)
            # |rest|^2 - |rest - a w|^2 = a (2 <rest, w> - a <w, w>): the most error taken away.
            indices[pulse] = int(np.argmax(best * (2 * match - best * energy)))
            amplitudes[pulse] = best[indices[pulse]]
    return indices, amplitudes


def _boxes(config: LPAConfig) -> Windows:
    """Aperiodic windows whose edges lie between frames, and their weight by distance."""
    distance = np.arange(-config.band, config.band + 1)
    bounds = np.geomspace(np.ceil(config.min_width), np.floor(config.max_width), WIDTHS)
    # Offsets come out of a tanh, which reaches its bound nowhere.
    reach = OFFSET_SHARE * config.max_offset
    steps = np.arange(-int(reach), int(reach) + 1, max(1, int(reach) // (CENTRES // 2)))
    near, width = (grid.ravel() for grid in np.meshgrid(steps, np.unique(bounds.round())))
    # A window of w frames around `near` covers whole frames; its centre may lie between two.
    first = np.ceil(near - (width - 1) / 2)
    centre = np.clip(first + (width - 1) / 2, -reach, reach)
    first, width = first[:, None], width[:, None]
    inside = (distance >= first) & (distance < first + width)
    # A mean over w frames gives each of them 1 / w. Parameters are what sigmoid and tanh take.
    share = (width[:, 0] - config.min_width) / (config.max_width - config.min_width)
    return Windows(
        {"offset": np.arctanh(centre / config.max_offset), "width": _logit(share)}, inside / width
    )


def _teeth(config: LPAConfig) -> Windows:
    """Periodic windows, and their mean weight by distance over the frames of a period."""
    distance = np.arange(-config.band, config.band + 1)
    ends = config.min_period * (1 + MARGIN), config.max_period * (1 - MARGIN)
    grid = np.meshgrid(np.geomspace(*ends, PERIODS), DUTIES)
    period, duty = (part.ravel()[:, None] for part in grid)
    width = 1 + (period - 1) * duty
    # A frame that lies u into its period sees distances from -u to width - u.
    # Those u for which distance d is under the tooth: from max(0, -d) to min(period, width - d).
    seen = np.minimum(period, width - distance) - np.maximum(0, -distance)
    weights = np.maximum(seen, 0) / (period * width)
    return Windows({"log_period": np.log(period[:, 0]), "duty": _logit(duty[:, 0])}, weights)


def _bases() -> Windows:
    """Positional windows over whole cells, and n times their weight by place, (C, M * M)."""
    lower, upper = np.triu_indices(CELLS + 1, k=1)
    cell = np.arange(CELLS)
    inside = (cell >= lower[:, None]) & (cell < upper[:, None])
    # One gate collects and gives back, so a pair has weight where both its places are inside;
    # n frames share the mean of a window of 2 half n frames.
    centre, half = (lower + upper) / (2 * CELLS), (upper - lower) / (2 * CELLS)
    weights = inside[:, :, None] * inside[:, None] / (2 * half[:, None, None])
    parameters = {"centre": _logit(centre), "half_width": _logit(half / MAX_HALF_WIDTH)}
    return Windows(parameters, weights.reshape(len(lower), -1))


def _set_teeth(lpa: LPA, head: int, teeth: Windows, chosen: np.ndarray) -> None:
    """Period and duty of a head's teeth; the phase keeps its share of the period."""
    assert lpa.periodic is not None
    period = lpa.periodic.log_period[head].exp()
    lpa.periodic.log_period[head] = _chosen(teeth, "log_period", chosen)
    lpa.periodic.phase[head] *= lpa.periodic.log_period[head].exp() / period
    lpa.periodic.duty[head] = _chosen(teeth, "duty", chosen)


def _chosen(windows: Windows, name: str, indices: np.ndarray) -> Tensor:
    return torch.from_numpy(windows.parameters[name][indices]).float()


def _logits(amplitudes: np.ndarray) -> Tensor:
    return torch.from_numpy(_logit(amplitudes)).float()


def _logit(share: np.ndarray) -> np.ndarray:
    inside = np.clip(share, MARGIN, 1 - MARGIN)
    return np.log(inside / (1 - inside))
