"""The two packages from Python: a few functions at the top, and nothing heavy until they run."""

import subprocess
import sys

import lpa_validate
import pytest

import lpa_export


def test_the_public_functions_are_those_of_the_commands() -> None:
    from lpa_validate.run import validate

    from lpa_export.commands.bench import bench
    from lpa_export.commands.enhance import enhance
    from lpa_export.commands.export import export
    from lpa_export.commands.transcribe import transcribe

    assert lpa_export.bench is bench and lpa_export.export is export
    assert lpa_export.transcribe is transcribe and lpa_export.enhance is enhance
    assert lpa_validate.validate is validate
    assert {*lpa_export.__all__} - {"__version__"} == {*lpa_export._PLACES}
    assert {*lpa_validate.__all__} == {*lpa_validate._PLACES}


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'imprt'"):
        _ = lpa_export.imprt


def test_importing_them_imports_nothing_heavy() -> None:
    code = (
        "import sys, lpa_export, lpa_validate; lpa_export.export; lpa_export.register_target;"
        "assert not {'torch', 'onnx', 'numpy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
