"""A benchmark's result for tests, any part of which can be another."""

from typing import Any

from msgspec.structs import replace

from lpa_export.benchmark.result import Benchmark, Machine, Point, Ratio, SideResult

ARTIFACTS = {"model.onnx": "ab" * 32}


def result(**changes: Any) -> Benchmark:
    """Two sides at one length, the second twice as slow; ``changes`` win."""
    ours = Point(
        seconds=60.0,
        time=1.25,
        spread=0.02,
        times=((1.25, 1.25), (1.25,)),
        first_peak=200_000_000,
        third_peak=300_000_000,
        foreign_cores=0.0,
    )
    theirs = replace(ours, time=2.5, times=((2.5,), (2.5,)), unusable="spread 9 %")
    side = SideResult(
        name="build/tiny/onnx",
        kind="bundle",
        model="tiny",
        scheme="fp32",
        artifacts=ARTIFACTS,
        exponent=None,
        points=(ours,),
    )
    whole = Benchmark(
        target="onnx",
        device="cpu",
        threads=2,
        rounds=2,
        machine=Machine(
            system="Linux 6", processor="fast", instructions=("avx2",), tools={"onnxruntime": "1"}
        ),
        ours=side,
        theirs=replace(side, name="hub-export", kind="export", artifacts={}, points=(theirs,)),
        ratios=(Ratio(seconds=60.0, ratio=2.0, low=1.9, high=2.1, unusable="spread 9 %"),),
    )
    return replace(whole, **changes)
