"""Ops of an MLX program: which primitives it holds, and which no GPU kernel is there for."""

from lpa_export.errors import LpaError
from lpa_export.runtimes import ArtifactError
from lpa_export.runtimes.mlx.file import primitives, read_header
from lpa_export.runtimes.mlx.section import runtime_of
from lpa_validate.evaluation import Opened
from lpa_validate.report import Check, Figure, judged
from lpa_validate.rules.mlx.kernels import BACKENDS, source, without_kernel

__all__ = ["check_ops"]


def check_ops(validation: Opened) -> list[Check]:
    """Counted in the file itself; kernels are predicted from MLX's source."""
    bundle = validation.bundle
    runtime = runtime_of(bundle)
    try:
        data = bundle.file(runtime.program).read_bytes()
    except (OSError, LpaError) as error:
        raise ArtifactError(f"{runtime.program} cannot be read ({error})") from error
    header, found = read_header(data), primitives(data)
    # Of each bucket a function for what the model gives and one for taps.
    functions = 2 * len(bundle.manifest.buckets or ())
    belied = sorted(
        name
        for name in {*found, *runtime.primitives}
        if found.get(name, 0) != runtime.primitives.get(name, 0)
    )
    absent = {backend: without_kernel(backend, found) for backend in BACKENDS}
    figures = [
        Figure("functions", header.functions, gate=functions, comparison="=="),
        Figure("primitives", sum(found.values())),
        Figure("kinds of primitives", len(found)),
        Figure("kinds that the manifest counts otherwise", len(belied), gate=0, comparison="=="),
        *(
            Figure(
                f"without a kernel in {backend}",
                sum(missing.values()),
                gate=0,
                comparison="==",
                label="predicted",
            )
            for backend, missing in absent.items()
        ),
    ]
    problems = [f"{name} is not as often there as the manifest says" for name in belied]
    problems += [
        f"{name} has no kernel in {backend} ({source(backend)})"
        for backend, missing in absent.items()
        for name in missing
    ]
    details = {
        "primitives": dict(sorted(found.items(), key=lambda item: -item[1])),
        "written_by": f"MLX {header.version}",
        "device": runtime.device,
        "sources": {backend: source(backend) for backend in BACKENDS},
    }
    return [judged("ops", figures, reason="; ".join(problems), details=details)]
