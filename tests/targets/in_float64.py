"""A model of transformers in float64, which no sum over a long utterance can spoil."""

import copy
from typing import Any

import numpy as np
import torch


def logits_in_float64(model: Any, waveform: np.ndarray) -> np.ndarray:
    """(frames, V) of a waveform (samples,), float64."""
    wide = copy.deepcopy(model).double().eval()
    with torch.inference_mode():
        logits: np.ndarray = wide(torch.from_numpy(waveform)[None].double()).logits[0].numpy()
    return logits
