"""Reading a ``.pte``: what executorch's own reader finds, and nothing but one line for damage."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lpa_validate.rules.executorch.xnnpack import read_graph

from lpa_export.formats.bundle import Bundle
from lpa_export.runtimes import ArtifactError, pad
from lpa_export.runtimes.executorch.process import Worker
from lpa_export.runtimes.executorch.program import read_program
from lpa_export.runtimes.executorch.runner import ExecutorchRunner

from .conftest import Programs, noise

Make = Callable[..., Bundle]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], Path]:
    """``saved(data)``: a file with these bytes."""

    def save(data: bytes) -> Path:
        path = tmp_path / "model.pte"
        path.write_bytes(data)
        return path

    return save


@pytest.mark.parametrize("name", ["dynamic", "bucketed", "coreml", "coreml_shared", "summed"])
def test_methods_are_those_that_executorch_itself_reads(
    programs: Programs, saved: Callable[[bytes], Path], name: str
) -> None:
    from executorch.exir._serialize._program import deserialize_pte_binary

    data = getattr(programs, name)
    file = deserialize_pte_binary(data)
    found = read_program(saved(data))
    assert found.size == len(data)
    assert [method.name for method in found.methods] == [
        plan.name for plan in file.program.execution_plan
    ]
    for method, plan in zip(found.methods, file.program.execution_plan, strict=True):
        calls = [item.instr_args for chain in plan.chains for item in chain.instructions]
        kernels = [call for call in calls if type(call).__name__ == "KernelCall"]
        delegate_calls = [call for call in calls if type(call).__name__ == "DelegateCall"]
        assert sum(method.kernels.values()) == len(kernels)
        for call in kernels:
            operator = plan.operators[call.op_index]
            assert method.kernels[f"{operator.name}.{operator.overload}"] > 0
        assert [index for index, _ in method.delegate_calls] == [
            call.delegate_index for call in delegate_calls
        ]
        assert [list(values) for _, values in method.delegate_calls] == [
            call.args for call in delegate_calls
        ]
        blobs = [
            file.program.backend_delegate_data[delegate.processed.index].data
            for delegate in plan.delegates
        ]
        assert [delegate.data for delegate in method.delegates] == blobs
        assert method.planned_bytes == sum(plan.non_const_buffer_sizes)
        assert (list(method.inputs), list(method.outputs)) == (plan.inputs, plan.outputs)
    named = file.named_data.pte_data if file.named_data else {}
    assert set(found.named) == set(named)


def test_an_xnnpack_delegate_holds_the_layer_known_by_hand(
    programs: Programs, saved: Callable[[bytes], Path]
) -> None:
    program = read_program(saved(programs.summed))
    method = program.method("forward")
    assert method.kernels == {"aten::cumsum.out": 1}
    assert [index for index, _ in method.delegate_calls] == [0]
    graph = read_graph(method.delegates[0].data)
    assert graph.nodes == {"fully_connected": 1}
    assert sorted(program.named[name] for name in graph.weights) == [5 * 4, 5 * 8 * 4]


def test_methods_share_their_weights(programs: Programs, saved: Callable[[bytes], Path]) -> None:
    program = read_program(saved(programs.dynamic))
    weights = [
        {
            name
            for delegate in program.method(name).delegates
            for name in read_graph(delegate.data).weights
        }
        for name in ("forward", "stages")
    ]
    assert weights[0] == weights[1] == set(program.named)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no ExecuTorch program"),
        (b"\0" * 100, "no ExecuTorch program"),
        (b"PK\x03\x04" * 100, "no ExecuTorch program"),
    ],
)
def test_other_files_are_refused(saved: Callable[[bytes], Path], data: bytes, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        read_program(saved(data))


def test_another_schema_is_named(programs: Programs, saved: Callable[[bytes], Path]) -> None:
    newer = programs.summed.replace(b"ET12", b"ET13", 1)
    with pytest.raises(ArtifactError, match=r"schema is 'ET13', this reads 'ET12'"):
        read_program(saved(newer))


def test_a_truncated_program_is_one_line_at_every_length(
    programs: Programs, saved: Callable[[bytes], Path]
) -> None:
    data = programs.dynamic
    for kept in [*range(0, 200, 7), *range(200, len(data), 1009), len(data) - 200]:
        with pytest.raises(ArtifactError) as caught:
            read_program(saved(data[:kept]))
        assert "\n" not in str(caught.value)


def test_flipped_bits_are_read_or_refused(
    programs: Programs, saved: Callable[[bytes], Path]
) -> None:
    generator = random.Random(5)
    for _ in range(400):
        data = bytearray(programs.summed)
        for _ in range(generator.randint(1, 3)):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        try:
            for method in read_program(saved(bytes(data))).methods:
                for delegate in method.delegates:
                    read_graph(delegate.data)
        except ArtifactError as error:
            assert "\n" not in str(error)


def test_offsets_that_all_lead_to_one_place_end_soon(
    programs: Programs, saved: Callable[[bytes], Path]
) -> None:
    data = bytearray(programs.summed)
    root = int.from_bytes(data[:4], "little")
    end = int.from_bytes(data[16:24], "little")
    for place in range(root, end - 4, 4):
        damaged = bytearray(data)
        damaged[place : place + 4] = (0xFFFFFF).to_bytes(4, "little")
        try:
            read_program(saved(bytes(damaged)))
        except ArtifactError:
            continue


def test_the_runtime_survives_flipped_bits_or_its_process_alone_dies(
    programs: Programs, saved: Callable[[bytes], Path]
) -> None:
    generator = random.Random(11)
    values = np.zeros((1, 6, 8), np.float32)
    worker, outcomes = Worker(seconds=30.0), set()
    for _ in range(60):
        data = bytearray(programs.summed)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path = saved(bytes(data))
        try:
            read_program(path)
            worker.ask("open", path=str(path))
            _, found = worker.ask("run", [values], method="forward")
            outcomes.add("ran")
            assert all(array.size < 1_000 for array in found)
        except ArtifactError as error:
            outcomes.add("refused")
            assert "\n" not in str(error)
            if "its process" in str(error):
                outcomes.add("died")
                worker = Worker(seconds=30.0)
    assert outcomes >= {"ran", "refused"}


def root_table(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


@pytest.mark.parametrize(
    "place", [root_table, lambda data: data.index(b"XH00"), lambda data: data.index(b"XN01")]
)
def test_a_damaged_bundle_is_an_artifact_error(
    programs: Programs, make_bundle: Make, place: Callable[[bytes], int]
) -> None:
    data = bytearray(programs.dynamic)
    start = place(programs.dynamic)
    data[start : start + 16] = b"\xff" * 16
    with pytest.raises(ArtifactError) as caught:
        ExecutorchRunner(make_bundle(bytes(data))).run(*pad([noise(4_000)]))
    assert "\n" not in str(caught.value)
