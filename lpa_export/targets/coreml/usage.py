"""How to run the packages, in Markdown, for the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpa_export.formats.manifest import as_type
from lpa_export.runtimes.coreml.runner import CoremlRuntime, Place
from lpa_export.targets.usage import decoding_in_words

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Manifest

__all__ = ["usage"]


def usage(manifest: Manifest) -> str:
    """Swift for an app, and how to evaluate the programs elsewhere."""
    runtime = as_type(manifest.runtime, CoremlRuntime, "'runtime'")
    buckets, first = manifest.buckets or (), runtime.encoders[0]
    names = {
        "package": first.package.removesuffix(".mlpackage"),
        "rate": manifest.sample_rate,
        "frames": buckets[0].frames,
        "samples": buckets[0].samples,
        "function": _function(runtime, first),
    }
    swift = _SWIFT[runtime.layout] % names
    lengths = ", ".join(f"{bucket.frames} ({bucket.seconds:g} s)" for bucket in buckets)
    return (
        f"Programs for {runtime.deployment_target} and later, of {lengths} frames. Take the "
        "smallest that holds the clip; frames behind the valid ones mean nothing. Copy outputs "
        f"by their strides: rows may be padded in memory. {decoding_in_words(manifest)}\n\n"
        f"```swift\n{swift}```\n\n{_LINUX}"
    )


def _function(runtime: CoremlRuntime, place: Place) -> str:
    """Packages of iOS 17 have one function, which has no name."""
    if runtime.deployment_target == "iOS17":
        return ""
    return f'configuration.functionName = "{place.function}"\n'


_SWIFT = {
    "split": """\
import CoreML

// Any length: the front end takes exactly the samples of the clip, %(rate)d Hz mono in -1...1.
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
// %(rate)d Hz mono in -1...1, zeros behind the clip: (1, %(samples)d) float32, and its length (1,).
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
