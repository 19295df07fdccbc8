"""A model in torch, as a benchmark runs it: on the CPU by the clock, on a GPU by its events."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import NORMALISATION_EPSILON
from lpa_export.measures.machine import peak_memory
from lpa_export.runtimes import Array

__all__ = ["TimedTorch"]


class TimedTorch:
    """A model of waveforms (1, samples), in float32 and eval mode.

    Memory is the device's own where it has some. Raises LpaError for a device that is not here.
    """

    def __init__(self, model: Any, *, normalise: bool, threads: int, device: str = "cpu") -> None:
        import torch

        self._torch = torch
        torch.set_num_threads(threads)
        self._normalise = normalise
        self._device = device
        self._events = device.startswith("cuda")
        try:
            self._model = model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise LpaError(f"device {device!r} is not here: {error}; take cpu") from error

    def run(self, waveform: Array) -> float:
        """Normalisation and model, from the waveform in memory to what it gives in the device's."""
        torch = self._torch
        started = time.perf_counter()
        if self._events:
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            torch.cuda.synchronize()
            events[0].record()
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(waveform)).to(self._device)[None]
            if self._normalise:
                centred = values - values.mean()
                values = centred / (centred.square().mean() + NORMALISATION_EPSILON).sqrt()
            self._model(values)
        if self._events:
            events[1].record()
            torch.cuda.synchronize()
            return float(events[0].elapsed_time(events[1])) / 1000
        return time.perf_counter() - started

    def peak(self) -> int:
        if self._events:
            return int(self._torch.cuda.max_memory_allocated())
        return peak_memory()
