"""What the protobuf of a program says before coremltools builds anything out of it."""

import hashlib
from collections.abc import Iterator
from typing import Any

from lpa_export.runtimes.coreml.errors import PackageError
from lpa_export.runtimes.coreml.files import Blob

__all__ = ["blobs", "constant_keys", "of_unknown_rank", "operations", "require_sane_sizes"]

# More elements than any value of a speech model; a program that asks for them is an attack.
_MOST_ELEMENTS = 1 << 31

_BITS = {
    "FLOAT16": 16,
    "FLOAT32": 32,
    "INT32": 32,
    "UINT32": 32,
    "INT16": 16,
    "UINT16": 16,
    "INT8": 8,
    "UINT8": 8,
    "INT4": 4,
    "UINT6": 6,
    "UINT4": 4,
    "UINT3": 3,
    "UINT2": 2,
    "UINT1": 1,
}


def operations(block: Any) -> Iterator[Any]:
    """Every operation of a block and of the blocks inside it (protobuf messages)."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations(inner)


def blobs(program: Any) -> Iterator[Blob]:
    """Every constant of the program that lies in a weight file."""
    for function in program.functions.values():
        for block in function.block_specializations.values():
            for operation in operations(block):
                name = operation.outputs[0].name if operation.outputs else operation.type
                for value in _values(operation):
                    if value.WhichOneof("value") == "blobFileValue":
                        yield _blob(name, value)


def of_unknown_rank(value: Any) -> bool:
    """Whether a value (a named type of the protobuf) is a tensor of any rank."""
    if value.type.WhichOneof("type") != "tensorType":
        return False
    return any(
        dimension.WhichOneof("dimension") == "unknown" and dimension.unknown.variadic
        for dimension in value.type.tensorType.dimensions
    )


def constant_keys(function: Any) -> dict[str, bytes]:
    """What tells whether two constants are the same: output name to digest.

    Only of constants in weight files (compressed ones too), which functions share. An operation
    that takes another's result has no key.
    """
    keys = {}
    for block in function.block_specializations.values():
        for operation in operations(block):
            values = list(_values(operation))
            in_file = any(value.WhichOneof("value") == "blobFileValue" for value in values)
            if in_file and _constant(operation) and len(operation.outputs) == 1:
                keys[operation.outputs[0].name] = _digest(operation)
    return keys


def require_sane_sizes(program: Any) -> None:
    """Raises PackageError when a value is declared far larger than any real one."""
    for function in program.functions.values():
        for block in function.block_specializations.values():
            for operation in operations(block):
                for output in operation.outputs:
                    if output.type.WhichOneof("type") == "tensorType":
                        _require_sane(output.name, output.type.tensorType)


def _require_sane(name: str, tensor_type: Any) -> None:
    if _count(tensor_type) > _MOST_ELEMENTS:
        raise PackageError(f"{name} is declared with {_count(tensor_type)} elements: not believed")


def _values(operation: Any) -> Iterator[Any]:
    yield from operation.attributes.values()
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "value":
                yield binding.value


def _constant(operation: Any) -> bool:
    named = any(
        binding.WhichOneof("binding") == "name"
        for argument in operation.inputs.values()
        for binding in argument.arguments
    )
    return not named and (operation.type == "const" or operation.type.startswith("constexpr_"))


def _digest(operation: Any) -> bytes:
    copy = type(operation)()
    copy.CopyFrom(operation)
    copy.outputs[0].name = ""
    copy.attributes.pop("name", None)
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()


def _blob(name: str, value: Any) -> Blob:
    place, tensor_type = value.blobFileValue, value.type.tensorType
    kind = tensor_type.DESCRIPTOR.fields_by_name["dataType"].enum_type
    data_type = kind.values_by_number[tensor_type.dataType].name
    if data_type not in _BITS:
        raise PackageError(f"{name} is kept as {data_type}, which no weight file holds")
    size = -(-_count(tensor_type) * _BITS[data_type] // 8)
    return Blob(name, place.fileName.split("/")[-1], place.offset, size)


def _count(tensor_type: Any) -> int:
    count = 1
    for dimension in tensor_type.dimensions:
        if dimension.WhichOneof("dimension") == "constant":
            count *= dimension.constant.size
    return count
