"""Recipes: what a good one gives, and the line that names each mistake in a bad one."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import Recipe, TeacherSettings
from lpa_export.formats.schemes import SCHEMES, resolve_gates
from lpa_export.formats.separation_recipe import SeparationRecipe, load_separation_recipe
from lpa_export.formats.task import RECOGNITION, SEPARATION, task_of
from lpa_export.targets import target_named
from lpa_export.targets.settings import load_recipe, target_settings

GOOD = """\
name: tiny
data:
  train: [../data/train.jsonl, /absolute/more.jsonl]
  dev: ../data/dev.jsonl
model:
  architecture:
    hidden_size: 192
    layers: 6
    heads: 4
    intermediate_size: 768
    conv_dim: [64, 128]
    conv_kernel: [25, 9]
    conv_stride: [10, 4]
    norm: pre
teacher:
  learning_rate: 1e-3
  epochs: 3
lpa:
  layers: [0, 1, 2, 3]
  max_offset: 8
replace:
  layer_temperature: [2, 0.3]
targets:
  onnx:
    quantize: int8
gates:
  reference_wer_ceiling: 25
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_recipe_becomes_frozen_typed_sections(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.model.architecture is not None and recipe.data is not None
    assert recipe.model.architecture.conv_dim == (64, 128)
    assert recipe.model.architecture.norm == "pre"
    assert recipe.teacher.learning_rate == 1e-3  # YAML 1.1 itself reads 1e-3 as text
    assert recipe.lpa.max_offset == 8.0 and isinstance(recipe.lpa.max_offset, float)
    assert recipe.replace.layer_temperature == (2.0, 0.3)
    assert target_settings(target_named("onnx"), recipe, {}).quantize == "int8"
    assert recipe.teacher.seed == TeacherSettings().seed
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.name = "other"  # type: ignore[misc]


def test_paths_start_at_the_recipes_folder(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.data is not None
    assert recipe.data.train == (tmp_path / "../data/train.jsonl", Path("/absolute/more.jsonl"))
    assert recipe.data.synthetic is None


def test_a_short_recipe_on_a_hub_id_has_defaults_for_the_rest(tmp_path: Path) -> None:
    text = "name: base\nmodel: {checkpoint: facebook/wav2vec2-base}\nlpa: {layers: [0, 1]}\n"
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.model.checkpoint == "facebook/wav2vec2-base"
    assert recipe.data is None
    assert recipe.max_harden_wer_points == 0.3


# name: (text to replace, replacement, line of the mistake, what the message says)
MISTAKES = {
    "unknown_key": (
        "epochs: 3",
        "epoch: 3",
        17,
        r"unknown key 'epoch' in 'teacher'; known: .*epochs, .*learning_rate",
    ),
    "unknown_section": ("targets:", "target:", 23, "unknown key 'target' in the recipe"),
    "unknown_target": ("  onnx:", "  onyx:", 24, "unknown key 'onyx' in the section 'targets'; kn"),
    "repeated_key": ("epochs: 3", "learning_rate: 1e-4", 17, "'learning_rate' .* is there twice"),
    "text_for_int": ("epochs: 3", "epochs: three", 17, "a whole number, found 'three'"),
    "float_for_int": ("epochs: 3", "epochs: 3.5", 17, "a whole number, found '3.5'"),
    "quoted_int": ("epochs: 3", "epochs: '3'", 17, "a whole number, found '3'"),
    "octal": ("epochs: 3", "epochs: 010", 17, "a whole number, found '010'"),
    "sexagesimal": ("epochs: 3", "epochs: 1:30", 17, "a whole number, found '1:30'"),
    "huge_int": ("epochs: 3", f"epochs: {'9' * 5000}", 17, "a whole number, found '999"),
    "null_for_int": ("epochs: 3", "epochs:", 17, "a whole number, found nothing"),
    "list_for_int": ("epochs: 3", "epochs: [3]", 17, "a whole number, found a list"),
    "nan": ("1e-3", ".nan", 16, "a number, found '.nan'"),
    "overflow": ("1e-3", "1e999", 16, "a number, found '1e999'"),
    "below_bound": ("epochs: 3", "epochs: 0", 17, "'epochs' must be at least 1, found 0"),
    "zero_rate": ("1e-3", "0", 16, "'learning_rate' must be above 0.0, found 0.0"),
    "above_bound": ("1e-3", "2", 16, "'learning_rate' must be at most 1.0"),
    "item_bound": ("[0, 1, 2, 3]", "[0, -1]", 19, r"'layers'\[1\] must be at least 0"),
    "item_type": ("[0, 1, 2, 3]", "[0, x]", 19, r"'layers'\[1\]: expected a whole number"),
    "no_list": ("[0, 1, 2, 3]", "4", 19, "'layers': expected a list, found '4'"),
    "pair_length": ("[2, 0.3]", "[2]", 22, "'layer_temperature': expected 2 items, found 1"),
    "rising_temperature": ("[2, 0.3]", "[0.3, 2]", 22, "layer_temperature must fall"),
    "empty_list": ("[../data/train.jsonl, /absolute/more.jsonl]", "[]", 3, "at least 1 items"),
    "bad_choice": ("quantize: int8", "quantize: int3", 25, "one of none, int8, found 'int3'"),
    "number_for_text": ("name: tiny", "name: 12", 1, "expected a text, found '12'; put it in quot"),
    "name_leads_out": ("name: tiny", "name: ../x", 1, "'name' must be like"),
    "missing_key": ("    heads: 4\n", "", 7, "'architecture' lacks 'heads'; add it"),
    "section_is_text": (
        "teacher:\n  learning_rate: 1e-3\n  epochs: 3",
        "teacher: x",
        15,
        "keys and",
    ),
    "lengths_differ": ("[25, 9]", "[25]", 7, "conv_stride must be of the same length"),
    "heads_do_not_divide": ("heads: 4", "heads: 5", 7, "192 must be a multiple of heads 5"),
    "layer_out_of_range": ("[0, 1, 2, 3]", "[0, 6]", 1, r"must lie in 0\.\.5, found 6"),
    "repeated_layer": ("[0, 1, 2, 3]", "[1, 1]", 19, "layers must differ"),
    "both_models": (
        "model:",
        "model:\n  checkpoint: x",
        6,
        "either 'checkpoint' or 'architecture'",
    ),
    "looser_ceiling": ("_ceiling: 25", "_ceiling: 80", 27, "looser than its default 30; give a"),
    "alias": ("[0, 1, 2, 3]", "&a [0, 1]", 19, "anchors and aliases"),
    "dangling_alias": ("[0, 1, 2, 3]", "*a", 19, "anchors and aliases"),
    "object_tag": ("name: tiny", "name: !!python/name:os.system tiny", 1, "tags .* not taken"),
    "merge_key": ("epochs: 3", "<<: {epochs: 3}", 17, "unknown key '<<'"),
    "key_is_a_list": ("epochs: 3", "[a]: 3", 17, "unknown key 'a list'"),
    "no_yaml": ("epochs: 3", "epochs: [3", 18, "not valid YAML"),
    "tab": ("  epochs: 3", "\tepochs: 3", 17, "not valid YAML"),
    "nesting": ("epochs: 3", "epochs: " + "[" * 200, 17, "nested deeper"),
    "second_document": ("gates:\n", "---\ngates:\n", 26, "not valid YAML"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_by_file_and_line(tmp_path: Path, name: str) -> None:
    before, after, line, problem = MISTAKES[name]
    assert GOOD.count(before) == 1
    path = write(tmp_path, GOOD.replace(before, after))
    with pytest.raises(LpaError, match=problem) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert "\n" not in message and len(message) < 600 + len(str(path))


FILES = {
    "binary": (b"\xff\xfe\x00", "UTF-8"),
    "empty": (b"", "empty file"),
    "only_a_comment": (b"# nothing\n", "empty file"),
    "a_list": (b"- 1\n", "expected keys and values, found a list"),
    "large": (b"#" * 100_000, "at most 64 KiB"),
    "control_characters": (b"name: a\x07b\n", "not valid YAML"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, name: str) -> None:
    content, problem = FILES[name]
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(LpaError, match=problem) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LpaError, match="no such recipe file"):
        load_recipe(tmp_path / "r.yaml")


def test_gates_of_a_recipe_tighten_the_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD + "  fp32: {psnr_db: 100}\n"))
    gates = recipe.gates.resolved("fp32")
    assert (gates.psnr_db, gates.argmax_agreement) == (100.0, 0.999)
    assert gates.reference_wer_ceiling == 25.0
    assert recipe.gates.resolved("int8").psnr_flag_db == SCHEMES["int8"].gates.psnr_flag_db


def test_a_looser_gate_needs_its_own_reason(tmp_path: Path) -> None:
    looser = GOOD + "  reason: a noisy corpus\n  int8:\n    wer_difference_points: 2\n"
    with pytest.raises(LpaError, match="int8 gate wer_difference_points 2 is looser"):
        load_recipe(write(tmp_path, looser))
    recipe = load_recipe(write(tmp_path, looser + "    reason: six utterances\n"))
    assert recipe.gates.resolved("int8").wer_difference_points == 2.0


def test_looser_hardening_needs_a_reason(tmp_path: Path) -> None:
    text = GOOD + "max_harden_wer_points: 1\n"
    with pytest.raises(LpaError, match="max_harden_wer_points 1 is looser"):
        load_recipe(write(tmp_path, text))
    reasoned = text.replace("gates:\n", "gates:\n  reason: measured\n")
    assert load_recipe(write(tmp_path, reasoned)).max_harden_wer_points == 1.0


def test_default_gates_are_the_published_table() -> None:
    fp32, fp16, int8 = (SCHEMES[name].gates for name in ("fp32", "fp16", "int8"))
    assert (fp32.psnr_db, fp32.argmax_agreement, fp32.wer_difference_points) == (90, 0.999, 0)
    assert fp32.padding_psnr_db == 60
    assert (int8.psnr_flag_db, int8.wer_difference_points) == (50, 0.3)
    assert (fp16.psnr_db, fp16.psnr_flag_db) == (40, 50)
    with pytest.raises(LpaError, match="unknown scheme 'fp8'; known: fp32, fp16, bf16, int8"):
        resolve_gates("fp8", {})


READERS: dict[str, tuple[Any, type]] = {
    RECOGNITION: (load_recipe, Recipe),
    SEPARATION: (load_separation_recipe, SeparationRecipe),
}


def test_every_recipe_of_the_repository_loads() -> None:
    folder = Path(__file__).resolve().parents[2] / "recipes"
    for path in sorted(set(folder.glob("*.yaml")) - set(folder.glob("*.study.yaml"))):
        read, kind = READERS[task_of(path)]
        assert isinstance(read(path), kind)


@pytest.mark.parametrize(
    ("target", "flags", "problem"),
    [
        ("coreml", {"buckets": (5.0, 4000.0)}, "buckets are seconds, above 0 and at most 3600"),
        ("coreml", {"quantize": "int3"}, "--quantize: must be one of none, int8"),
        ("executorch", {"backend": "No Such"}, "--backend: must be like"),
        ("onnx", {"backend": "xnnpack"}, "--backend: target onnx has no such setting"),
    ],
)
def test_a_flag_keeps_the_bounds_of_the_setting(
    target: str, flags: dict[str, Any], problem: str
) -> None:
    with pytest.raises(LpaError, match=problem):
        target_settings(target_named(target), None, flags)
