"""Run a program on clips, in a process of its own: a crash of native code takes nothing with it.

    python -m lpa_export.targets.executorch.play PROGRAM METHOD INPUTS.npz OUTPUTS.npz

INPUTS holds `<clip>.<number>`, the inputs of each clip; OUTPUTS gets the same of its outputs.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(program: str, method: str, inputs: str, outputs: str) -> None:
    """Run the clips one after another; the arguments are those of the command line."""
    import numpy as np
    import torch
    from executorch.runtime import Runtime

    loaded = Runtime.get().load_program(Path(program)).load_method(method)
    if loaded is None:
        raise SystemExit(f"the program has no method {method}")
    found = {}
    with np.load(inputs) as clips:
        given: dict[str, list[torch.Tensor]] = {}
        for name in clips.files:
            given.setdefault(name.split(".")[0], []).append(torch.from_numpy(clips[name]))
        for clip, tensors in given.items():
            for number, value in enumerate(loaded.execute(tensors)):
                found[f"{clip}.{number}"] = value.numpy().copy()
    np.savez(outputs, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
