"""Mistakes in how a model is lowered, and in what checks that."""

from tests.mutants.mutant import Mutant

__all__ = ["LOWERING"]

SKELETON, SELFCHECK = "lpa_export/targets/skeleton.py", "lpa_export/targets/selfcheck.py"
ANY_LENGTH = "lpa_export/layers/any_length.py"
BATCHED, PARTS = "lpa_export/targets/batched.py", "lpa_export/hosts/parts.py"
COREML, EXECUTORCH = "lpa_export/targets/coreml/kit.py", "lpa_export/targets/executorch/kit.py"
IN_BATCHED = "tests/targets/test_batched.py"
IN_SKELETON, IN_SELFCHECK = "tests/targets/test_skeleton.py", "tests/targets/test_selfcheck.py"

LOWERING = (
    Mutant(
        "residual of the mixing half removed, norms first",
        SKELETON,
        "hidden = hidden + mixed\n",
        "hidden = mixed\n",
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
        "shared=self.shared[index : index + 1]",
        "shared=self.shared[:1]",
        IN_SKELETON,
    ),
    Mutant(
        "weights of the first layer of a kind for all of them",
        "lpa_export/targets/onnx/lower.py",
        "_call(whole, piece, layer,",
        "_call(whole, piece, model.layers[0],",
        "tests/targets/test_onnx_graph.py",
    ),
    Mutant(
        "weights of a separator's first block for all",
        "lpa_export/targets/onnx/separator.py",
        "pieces[path], model.get_submodule(path),",
        'pieces[path], model.get_submodule(path.replace("blocks.1", "blocks.0")),',
        "tests/separation/test_shipped.py::test_it_passes_the_gates_of_every_target[onnx]",
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
        "lengths = valid.sum(dim=1, keepdim=True).clamp_min(1)",
        "lengths = torch.full_like(valid.sum(dim=1, keepdim=True), valid.shape[1])",
        IN_SKELETON,
    ),
    Mutant(
        "context of LPA hears padding",
        ANY_LENGTH,
        "heard = hidden.masked_fill((number >= shared.lengths)[..., None], 0.0)",
        "heard = hidden",
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
        "an offset of the waveform left to float32",
        PARTS,
        'return "mean" if isinstance(self.features[0].norm, nn.GroupNorm) else "none"',
        'return "none"',
        "tests/targets/executorch/test_program.py::test_an_offset_of_quiet_speech_and_the_bias_before"
        "_a_norm_over_time_cost_no_digits",
    ),
    Mutant(
        "a bias left in front of a norm over time",
        "lpa_export/hosts/pieces.py",
        "_without_bias(layer.conv) if isinstance(norm, nn.GroupNorm) else layer.conv",
        "layer.conv",
        "tests/targets/mlx/test_model.py::test_an_offset_of_quiet_speech_and_the_bias_before"
        "_a_norm_over_time_cost_no_digits",
    ),
    Mutant(
        "an offset hears padding",
        BATCHED,
        "    speech = waveform.masked_fill(~valid, 0.0)\n",
        "    speech = waveform\n",
        f"{IN_BATCHED}::test_an_offset_alone_is_taken_from_each_utterance_by_itself",
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
