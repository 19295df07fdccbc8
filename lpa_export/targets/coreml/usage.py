"""How to run the packages, in Markdown, for the model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Bucket
    from lpa_export.runtimes.coreml.runner import Place
    from lpa_export.targets.coreml.settings import CoremlSettings

__all__ = ["usage"]


def usage(settings: CoremlSettings, buckets: Sequence[Bucket], first: Place) -> str:
    """`first`: the program of the first bucket."""
    names = {
        "package": first.package.removesuffix(".mlpackage"),
        "frames": buckets[0].frames,
        "samples": buckets[0].samples,
        "function": _function(settings, first.function),
    }
    swift = _SWIFT[settings.layout] % names
    lengths = ", ".join(f"{bucket.frames} ({bucket.seconds:g} s)" for bucket in buckets)
    return (
        f"Programs for {settings.deployment_target} and later, of {lengths} frames. Take the "
        "smallest that holds the clip; frames behind the valid ones mean nothing. Copy outputs "
        "by their strides: rows may be padded in memory.\n\n"
        f"```swift\n{swift}```\n\n{_LINUX}"
    )


def _function(settings: CoremlSettings, function: str) -> str:
    if settings.deployment_target == "iOS17":
        return ""
    return f'configuration.functionName = "{function}"\n'


_SWIFT = {
    "split": """\
import CoreML

// Any length: the front end takes exactly the samples of the clip, 16 kHz mono in -1...1.
let anywhere = MLModelConfiguration()
anywhere.computeUnits = .cpuOnly
let frontend = try MLModel(contentsOf: frontendURL, configuration: anywhere)
let configuration = MLModelConfiguration()
configuration.computeUnits = .cpuAndNeuralEngine
// encoderURL: %(package)s
%(function)slet encoder = try MLModel(contentsOf: encoderURL, configuration: configuration)

let heard = try frontend.prediction(from: MLDictionaryFeatureProvider(
    dictionary: ["waveform": waveform]))  // (1, samples) float32
// Copy "projected" (1, D, 1, frames) into zeros of (1, D, 1, %(frames)d); the mask
// (1, 1, 1, %(frames)d) is 1 for the valid frames, 0 behind them.
let result = try encoder.prediction(from: MLDictionaryFeatureProvider(
    dictionary: ["projected": padded, "mask": mask]))
let logits = result.featureValue(for: "logits")!.multiArrayValue!  // (1, V, 1, %(frames)d)
""",
    "whole": """\
import CoreML

let configuration = MLModelConfiguration()
configuration.computeUnits = .cpuAndNeuralEngine
// modelURL: %(package)s
%(function)slet model = try MLModel(contentsOf: modelURL, configuration: configuration)
// 16 kHz mono in -1...1, zeros behind the clip: (1, %(samples)d) float32, and its length (1,).
let result = try model.prediction(from: MLDictionaryFeatureProvider(
    dictionary: ["waveform": waveform, "samples": samples]))
let logits = result.featureValue(for: "logits")!.multiArrayValue!  // (1, V, 1, %(frames)d)
""",
}

_LINUX = """\
On Linux, which has no Core ML, `lpa_validate` evaluates the very programs in float16 as an
emulation (no device run):

```python
import numpy as np
from lpa_export.runtimes.coreml import Evaluator, load_package

package = load_package("frontend.mlpackage")  # or an encoder, with its function's name
print(package.functions, package.metadata["vocabulary"])
evaluator = Evaluator(package, function="main")
projected = evaluator.run({"waveform": np.zeros((1, 16000), np.float32)})["projected"]
```
"""
