"""report.json and the schema beside the code: they agree, infinite numbers included."""

import json
import math

import jsonschema
from lpa_validate import schema
from lpa_validate.report import Check, Data, Figure, Reference, Report, judged, not_run

from lpa_export.formats.manifest import Normaliser
from lpa_export.formats.schemes import SCHEMES

((PATH, TEXT),) = schema.schemas().items()


def report(*checks: Check) -> Report:
    return Report(
        target="onnx",
        model="tiny",
        scheme=SCHEMES["fp32"].scheme,
        artifacts={"model.onnx": "ab" * 32},
        artifact_bytes=10,
        data=Data("demo", "cd" * 32, 4, 10, None),
        reference=Reference("golden", "tiny", "ef" * 32),
        normaliser=Normaliser(name="lpa-text", version="2"),
        environment={},
        checks=checks,
    )


def test_the_schema_in_the_file_is_that_of_the_code() -> None:
    assert PATH.read_text("utf-8") == TEXT, "write it anew with python -m lpa_validate.schema"


def test_reports_with_infinite_and_undefined_figures_fit_the_schema() -> None:
    figures = [Figure("PSNR", math.inf, "dB", 90.0, ">="), Figure("worst", math.nan)]
    checks = (judged("parity", figures, details={"taps": [{"psnr_db": math.inf}]}),)
    plain = report(*checks, not_run("wer", "no speech")).to_json()
    json.dumps(plain, allow_nan=False)
    assert [figure["value"] for figure in plain["checks"][0]["figures"]] == ["inf", "nan"]
    validator = jsonschema.Draft202012Validator(json.loads(TEXT))
    assert list(validator.iter_errors(plain)) == []
    assert list(validator.iter_errors(plain | {"verdict": "perhaps"}))
    assert list(validator.iter_errors(plain | {"smell": 1}))
