"""Mistakes planted one at a time: a test must fail for each of them.

    python tests/mutants.py [WORD ...]     # only mutants with such a word in their name

The repository's own copy stays as it is: each mutant is tried in a copy of the packages.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COPIED = ("lpa_export", "validation", "tests", "pyproject.toml", "recipes")


@dataclass(frozen=True)
class Mutant:
    """In `file`, the one place that says `right` says `wrong` instead; `tests` should notice."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


SKELETON, SELFCHECK = "lpa_export/targets/skeleton.py", "lpa_export/targets/selfcheck.py"
ANY_LENGTH = "lpa_export/layers/any_length.py"
BATCHED, PARTS = "lpa_export/targets/batched.py", "lpa_export/hosts/parts.py"
COREML, EXECUTORCH = "lpa_export/targets/coreml/kit.py", "lpa_export/targets/executorch/kit.py"
IN_SKELETON, IN_SELFCHECK = "tests/targets/test_skeleton.py", "tests/targets/test_selfcheck.py"

MUTANTS = (
    Mutant(
        "residual of the mixing half removed, norms first",
        SKELETON,
        "hidden = hidden + mix(self.norm(hidden), context)",
        "hidden = mix(self.norm(hidden), context)",
        IN_SKELETON,
    ),
    Mutant(
        "residual of the feed-forward removed, norms last",
        SKELETON,
        "hidden = self.final_norm(hidden + self.feed_forward(hidden))",
        "hidden = self.final_norm(self.feed_forward(hidden))",
        IN_SKELETON,
    ),
    Mutant(
        "the two norms of a layer swapped",
        SKELETON,
        "self.norm = kit.norm(layer.norm)\n",
        "self.norm = kit.norm(layer.final_norm)\n",
        IN_SKELETON,
    ),
    Mutant(
        "last norm skipped where norms come first",
        SKELETON,
        "hidden = self.norm(hidden)\n        if self.length_adapter",
        "pass\n        if self.length_adapter",
        IN_SKELETON,
    ),
    Mutant(
        "a tap dropped",
        SKELETON,
        "            taps.append(hidden)\n",
        "            taps.append(hidden) if layer is not self.layers[0] else None\n",
        IN_SKELETON,
    ),
    Mutant(
        "padding not silenced before the position embedding",
        SKELETON,
        "hidden = self.silence(projected, mask)",
        "hidden = projected",
        IN_SKELETON,
    ),
    Mutant(
        "padding not silenced between position layers",
        SKELETON,
        "embedded = layer(self.silence(embedded, mask), mask)",
        "embedded = layer(embedded, mask)",
        IN_SKELETON,
    ),
    Mutant(
        "padding not silenced behind the batch norm of a position layer",
        SKELETON,
        "self.layer(self.silence(self.affine(hidden), mask), mask)",
        "self.layer(self.affine(hidden), mask)",
        IN_SKELETON,
    ),
    Mutant(
        "another layer's share of the context",
        BATCHED,
        "shared=context.shared[index : index + 1]",
        "shared=context.shared[:1]",
        IN_SKELETON,
    ),
    Mutant(
        "weights of the first layer of a kind for all of them",
        "lpa_export/targets/onnx/lower.py",
        "_call(whole, layers[alike], layer,",
        "_call(whole, layers[alike], model.layers[0],",
        "tests/targets/test_onnx_graph.py",
    ),
    Mutant(
        "language adapter without its residual",
        SKELETON,
        "hidden + self.adapter(hidden)",
        "self.adapter(hidden)",
        IN_SKELETON,
    ),
    Mutant(
        "keys at padding attended to",
        BATCHED,
        "bias = (~valid).to(hidden.dtype)[:, None] * MASKED_SCORE",
        "bias = (~valid).to(hidden.dtype)[:, None] * 0.0",
        IN_SKELETON,
    ),
    Mutant(
        "LPA over padding too",
        ANY_LENGTH,
        "lengths = valid.sum(dim=1).clamp_min(1)",
        "lengths = torch.full_like(valid.sum(dim=1), valid.shape[1])",
        IN_SKELETON,
    ),
    Mutant(
        "context of LPA hears padding",
        ANY_LENGTH,
        "silent = hidden.masked_fill(~shared.valid[..., None], 0.0)",
        "silent = hidden",
        IN_SKELETON,
    ),
    Mutant(
        "length adapter not silenced",
        BATCHED,
        "return self.silence(hidden, valid), valid",
        "return hidden, valid",
        IN_SKELETON,
    ),
    Mutant(
        "norm over time hears padding in whole programs",
        COREML,
        "over_time = MaskedTimeNorm if masked else TimeNorm",
        "over_time = TimeNorm",
        IN_SKELETON,
    ),
    Mutant(
        "position layer one frame late",
        EXECUTORCH,
        "self.padding = (reach, reach - layer.trim)",
        "self.padding = (reach - layer.trim, reach)",
        IN_SKELETON,
    ),
    Mutant(
        "position bias of the other direction",
        PARTS,
        "buckets = (offsets > 0) * half",
        "buckets = (offsets < 0) * half",
        "tests/hosts/test_parts.py",
    ),
    Mutant(
        "a tap below the floor passes",
        SELFCHECK,
        "if not value >= floor_db}",
        "if value < -floor_db}",
        IN_SELFCHECK,
    ),
    Mutant(
        "a tenth of the frames may be wrong",
        SELFCHECK,
        "FLIPPED_SHARE = 0.02",
        "FLIPPED_SHARE = 0.1",
        IN_SELFCHECK,
    ),
    Mutant(
        "a tap that is missing passes",
        SELFCHECK,
        "if found is None or found.shape != expected.shape:\n        return math.nan",
        "if found is None or found.shape != expected.shape:\n        return math.inf",
        IN_SELFCHECK,
    ),
    Mutant(
        "the lowest level forgotten",
        SELFCHECK,
        "second if math.isnan(second) or second < first else first",
        "second",
        IN_SELFCHECK,
    ),
    Mutant(
        "the blank shifted",
        "lpa_export/targets/describe.py",
        '"blank_id": vocabulary.blank,',
        '"blank_id": vocabulary.blank + 1,',
        "tests/test_end_to_end.py",
    ),
)


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether all its tests pass. Raises ValueError where the right line is not there once."""
    source = REPOSITORY / mutant.file
    text = source.read_text("utf-8")
    if text.count(mutant.right) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} says it {text.count(mutant.right)} times")
    place = folder / mutant.file
    place.write_text(text.replace(mutant.right, mutant.wrong), "utf-8")
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'validation'}"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", mutant.tests]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    finally:
        place.write_text(text, "utf-8")
    if done.returncode not in (0, 1):
        raise ValueError(f"{mutant.name}: {done.stdout[-400:]}{done.stderr[-400:]}")
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    alive = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in COPIED:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, Path(scratch) / name)
            else:
                shutil.copy(source, Path(scratch) / name)
        for mutant in chosen:
            lives = survives(mutant, Path(scratch))
            alive += lives
            print(f"{'SURVIVES' if lives else 'killed  '}  {mutant.name}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
