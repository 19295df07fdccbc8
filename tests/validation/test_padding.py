"""What lies behind a clip or was heard before it, to artifacts that take exact lengths."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from lpa_validate.checks.padding import check_padding
from lpa_validate.run import open_validation

from lpa_export.formats.bundle import Bundle
from lpa_export.formats.speech import load_utterances


class Leaking:
    """A runner whose buffers keep a thousandth of what they held."""

    def __init__(self, runner: Any) -> None:
        self._runner, self._kept = runner, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, padded: Any, lengths: Sequence[int]) -> list[Any]:
        found = [logits + np.float32(self._kept) for logits in self._runner.run(padded, lengths)]
        self._kept = 1e-3 * float(np.abs(found[-1]).max())
        return found


def test_what_exact_lengths_heard_before_must_leave_nothing(
    make_bundle: Callable[..., Bundle], speech: Path, reference: Any
) -> None:
    padded = open_validation(make_bundle(), load_utterances(speech), reference, "")
    manifest = padded.bundle.manifest
    one_port = msgspec.structs.replace(manifest, inputs=manifest.inputs[:1])
    exact = replace(padded, bundle=replace(padded.bundle, manifest=one_port))
    (sound,) = check_padding(exact)
    assert sound.status == "pass"
    names = [figure.name for figure in sound.figures if figure.name.startswith("PSNR")]
    assert names == ["PSNR, after a longer clip", "PSNR, after itself and 3 s of noise"]
    (found,) = check_padding(replace(exact, runner=Leaking(exact.runner)))
    assert found.status == "fail"
    assert all(found.figure(name).failed for name in names)
