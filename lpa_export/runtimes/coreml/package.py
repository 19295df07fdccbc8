"""Core ML packages read on any system, through coremltools' own loader."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lpa_export.environment import quiet
from lpa_export.runtimes.coreml.errors import PackageError, UnsupportedOp, one_line
from lpa_export.runtimes.coreml.features import Feature, features_of
from lpa_export.runtimes.coreml.files import PackageFiles, check_blobs, package_files
from lpa_export.runtimes.coreml.mixed import mixed_parameters
from lpa_export.runtimes.coreml.program import (
    blobs,
    constant_keys,
    of_unknown_rank,
    operations,
    require_sane_sizes,
)

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Function

__all__ = ["Package", "load_package"]

_DEFAULT = "main"
_WORTH_SHARING = 1 << 12


class Package:
    """An .mlpackage with an ML Program in it; functions are built when they are first asked for.

    ``functions`` raises PackageError for a function that coremltools cannot build.
    """

    def __init__(self, path: Path, files: PackageFiles, model: Any) -> None:
        self.path = path
        self.size: int = files.size
        """Bytes on disk, all files."""
        self.largest_file: int = files.largest_file
        """Bytes of the largest file of weights."""
        self.specification_version: int = model.specificationVersion
        self.metadata: Mapping[str, str] = dict(model.description.metadata.userDefined)
        self.functions: Mapping[str, Function] = _Functions(model, files)
        named = model.description.defaultFunctionName
        self.default_function: str = named or _first(self.functions)
        self._model = model

    def function(self, name: str | None = None) -> "Function":
        """A function by name, the default one without a name. Raises PackageError."""
        wanted = self.default_function if name is None else name
        if wanted not in self.functions:
            known = ", ".join(self.functions)
            raise PackageError(f"{self.path.name} has no function {wanted}; it has {known}")
        return self.functions[wanted]

    def features(self, name: str) -> dict[str, Feature]:
        """What the function of this name takes: input name to shapes and type."""
        return features_of(self._model, self.function(name), name)

    def constant_keys(self, name: str) -> dict[str, bytes]:
        """Equal keys stand for equal constants, also of different functions."""
        return constant_keys(self._model.mlProgram.functions[name])


def load_package(path: Path) -> Package:
    """Open an .mlpackage and check everything that can be checked without computing.

    Raises PackageError, one line: not a package, damaged or truncated, not an ML Program, of a
    specification newer than the installed coremltools knows.
    """
    files = package_files(path)
    model = _specification(files.model, path.name)
    kind = model.WhichOneof("Type")
    if kind != "mlProgram":
        raise PackageError(f"{path.name}: expected an ML Program, found {kind or 'an empty model'}")
    newest = _newest_version()
    if model.specificationVersion > newest:
        raise PackageError(
            f"{path.name}: specification {model.specificationVersion} is newer than {newest}, "
            f"the last that the installed coremltools knows; update coremltools"
        )
    if not model.mlProgram.functions:
        raise PackageError(f"{path.name}: the program has no function")
    require_sane_sizes(model.mlProgram)
    check_blobs(files.weights, blobs(model.mlProgram))
    return Package(path, files, model)


class _Functions(Mapping[str, Any]):
    """Functions by name, each built on first use: unused buckets cost no memory."""

    def __init__(self, model: Any, files: PackageFiles) -> None:
        self._model = model
        self._weights = files.weights
        self._built: dict[str, Any] = {}
        self._weights_kept: dict[tuple[Any, ...], npt.NDArray[Any]] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            if name not in self._model.mlProgram.functions:
                raise KeyError(name)
            self._built[name] = self._build(name)
            if len(self) > 1:
                self._share(self._built[name])
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._model.mlProgram.functions))

    def __len__(self) -> int:
        return len(self._model.mlProgram.functions)

    def _build(self, name: str) -> Any:
        with quiet():
            from coremltools import proto
            from coremltools.converters.mil.frontend.milproto.load import load_mil_proto

            self._require_known(name)
            alone = proto.MIL_pb2.Program(version=self._model.mlProgram.version)
            alone.functions[name].CopyFrom(self._model.mlProgram.functions[name])
            weights = str(self._weights) if self._weights else ""
            try:
                with mixed_parameters():
                    program = load_mil_proto(alone, self._model.specificationVersion, weights)
            except MemoryError:
                raise
            except Exception as error:  # asserts, KeyError, ValueError, its own types
                # It may be damaged, or just beyond what coremltools loads: that cannot be told.
                raise PackageError(
                    f"function {name}: coremltools cannot build it "
                    f"({type(error).__name__}: {one_line(error)[:200]})"
                ) from error
        return program.functions[name]

    def _share(self, function: Any) -> None:
        """Let equal weights of several functions be one array in memory, as in the file."""
        for operation in function.operations:
            value = operation.outputs[0].val if operation.op_type == "const" else None
            if isinstance(value, np.ndarray) and value.nbytes >= _WORTH_SHARING:
                digest = hashlib.blake2b(np.ascontiguousarray(value).data).digest()
                shared = self._weights_kept.setdefault((value.dtype, value.shape, digest), value)
                for variable in (operation.outputs[0], operation.val):
                    variable._sym_val.val = shared

    def _require_known(self, name: str) -> None:
        from coremltools.converters.mil.mil import Builder

        function = self._model.mlProgram.functions[name]
        for block in function.block_specializations.values():
            for operation in operations(block):
                kind = operation.type
                if kind != "write_state" and (kind.startswith("_") or not hasattr(Builder, kind)):
                    raise UnsupportedOp(
                        f"function {name}: coremltools knows no operation {kind} "
                        f"(output {', '.join(value.name for value in operation.outputs)})"
                    )
                for output in operation.outputs:
                    if of_unknown_rank(output):
                        raise UnsupportedOp(
                            f"function {name}: {kind} (output {output.name}) cannot be computed: "
                            f"its rank is only known at run time, which coremltools does not load"
                        )


def _specification(file: Path, package: str) -> Any:
    with quiet():
        from coremltools.models.utils import load_spec

        try:
            # The file that was checked: a package's own path would have its manifest read again.
            return load_spec(str(file))
        except MemoryError:
            raise
        except Exception as error:  # protobuf's DecodeError, RuntimeError of the C++ side
            raise PackageError(
                f"{package} is damaged: the model does not open ({one_line(error)[:200]})"
            ) from error


def _newest_version() -> int:
    from coremltools.converters.mil._deployment_compatibility import AvailableTarget

    return int(max(AvailableTarget))


def _first(functions: Mapping[str, Any]) -> str:
    return _DEFAULT if _DEFAULT in functions else next(iter(functions))
