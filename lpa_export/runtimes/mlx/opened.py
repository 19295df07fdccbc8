"""The program of a bundle of any task, open in MLX's own runtime, in a process of its own.

A program that is written for the GPU runs on the CPU where there is none: the same file but for the
field that says where.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.runtimes import Array, ArtifactError
from lpa_export.runtimes.mlx.file import CPU, placed, primitives, read_header, require_readable
from lpa_export.runtimes.mlx.section import runtime_of
from lpa_export.runtimes.process import Worker

if TYPE_CHECKING:
    from lpa_export.formats.bundle import AnyBundle

__all__ = ["WORKER", "OpenFunctions"]

WORKER = Path(__file__).with_name("worker.py")
"""What the process runs."""


class OpenFunctions:
    """A function per bucket, found by the shape of what it is given.

    Raises ArtifactError when the file does not open, or is not in the bundle.
    """

    def __init__(self, bundle: "AnyBundle", *, threads: int) -> None:
        self.runtime = runtime_of(bundle)
        try:
            data = bundle.file(self.runtime.program).read_bytes()
        except (OSError, LpaError) as error:
            raise ArtifactError(f"{self.runtime.program} cannot be read ({error})") from error
        self._worker = Worker(WORKER, environment={"OMP_NUM_THREADS": str(threads)})
        self.metadata: Mapping[str, str] = self._open(data)

    def compute(self, waveform: Array, lengths: Any, *, taps: bool) -> list[Array]:
        """What the model gives, or all taps; (1, samples) and (1,) int32 of a bucket."""
        return self._worker.ask("run", [waveform, lengths], taps=taps)[1]

    def _open(self, data: bytes) -> dict[str, str]:
        """Load the program into the process; what it says of itself."""
        try:
            header = read_header(data)
            about, _ = self._worker.ask("about")
            require_readable(header, about["version"])
            if dict(primitives(data)) != self.runtime.primitives:
                raise ArtifactError("its primitives are not those that were written")
            if not about["gpu"]:
                data = placed(data, CPU)
            # Weights are read when they are used: the file stays as long as the runner.
            self._folder = tempfile.TemporaryDirectory(prefix="lpa-mlx-")
            place = Path(self._folder.name, "model.mlxfn")
            place.write_bytes(data)
            self._worker.ask("open", path=str(place))
            words: Any = json.loads(header.metadata)
            return {str(name): str(value) for name, value in dict(words).items()}
        except (ArtifactError, ValueError, TypeError) as error:
            said = " ".join(str(error).split())
            raise ArtifactError(f"{self.runtime.program} does not open: {said}") from error
