"""Faults of models that separate speech, each brought back."""

from tests.mutants.mutant import Mutant

__all__ = ["SEPARATION"]

COREML, TESTS = "lpa_export/targets/coreml", "tests/separation"
QUIET = (
    f"{TESTS}/test_shipped.py::test_a_bucket_gives_what_the_module_gives_whatever_lies_behind"
    "[coreml]"
)
CHECKS, IN_VALIDATE = "validation/lpa_validate/separation", f"{TESTS}/test_validate.py"
ENHANCE, IN_ENHANCE = "lpa_export/commands/enhance.py", f"{TESTS}/test_enhance.py"
GOLDEN, IN_EXPORT = "lpa_export/targets/separation/golden.py", f"{TESTS}/test_export.py"
IN_TRAINING = "tests/training/test_separation.py"
BFLOAT16 = f"{IN_TRAINING}::test_in_bfloat16_norms_sums_and_attention_stay_float32"

SEPARATION = (
    Mutant(
        "separation: Core ML's norm of quiet audio is half",
        f"{COREML}/separator_target.py",
        "self.model.norm = InFloat32(self.model.norm)",
        "pass",
        QUIET,
    ),
    Mutant(
        "separation: what computes in float32 is lost where shapes become constants",
        f"{COREML}/convert.py",
        "        if isinstance(part, ComputesInFloat32):\n            constant",
        "        if False:\n            constant",
        QUIET,
    ),
    Mutant(
        "separation: equal silence is an error",
        "lpa_export/measures/separation.py",
        "error) if error else np.inf",
        "error)",
        "tests/measures/test_separation.py::test_silence_has_nothing_of_the_source",
    ),
    Mutant(
        "separation: a longer neighbour is no longer",
        f"{CHECKS}/padding.py",
        "spread[-1][: 2 * longest]",
        "clips[-1]",
        f"{IN_VALIDATE}::test_a_neighbours_tail_shows_where_all_mixtures_are_longer_than_what_is_compared",
    ),
    Mutant(
        "separation: a bucket is compared with itself",
        "validation/lpa_validate/checks/buckets.py",
        '"zeros", bucket, 0.0, smaller',
        '"zeros", bucket, 0.0, bucket',
        f"{IN_VALIDATE}::test_a_bucket_is_not_compared_with_itself",
    ),
    Mutant(
        "separation: what the original silences is the artifact's fault",
        f"{CHECKS}/evaluation.py",
        " - _silenced(mixture, expected)",
        "",
        f"{IN_VALIDATE}::test_what_the_original_silences_too_is_no_fault",
    ),
    Mutant(
        "separation: clean speech has an improvement",
        f"{CHECKS}/evaluation.py",
        "    if not np.isfinite(before).all():\n        return None\n",
        "",
        f"{IN_VALIDATE}::test_silence_noise_alone_and_clean_speech_are_no_fault_of_a_sound_bundle",
    ),
    Mutant(
        "separation: a mixture that is too short is the artifact's fault",
        f"{CHECKS}/evaluation.py",
        "            require_frames(mixture.waveform, shortest, place.id, sample_rate=rate)\n",
        "",
        f"{IN_VALIDATE}::test_a_mixture_shorter_than_the_model_takes_is_named",
    ),
    Mutant(
        "separation: a report names the data of what was separated alone",
        f"{CHECKS}/run.py",
        "    for place in validation.places:\n        mixture",
        "    for place in validation.places if 'separated' in vars(validation) else ():\n"
        "        mixture",
        f"{IN_VALIDATE}::test_a_report_names_its_data_and_what_it_compared_with",
    ),
    Mutant(
        "separation: one file's output takes another's place",
        ENHANCE,
        "if places[0] in taken:",
        "if False:",
        f"{IN_ENHANCE}::test_files_that_would_take_each_others_place_are_refused_before_the_work",
    ),
    Mutant(
        "separation: an output that is there is found after the work",
        ENHANCE,
        "    _require_free(places, overwrite)\n    rate",
        "    rate",
        f"{IN_ENHANCE}::test_an_output_that_is_there_is_refused_before_the_work",
    ),
    Mutant(
        "separation: NaN is clean",
        ENHANCE,
        "if not np.isfinite(made).all():",
        "if False:",
        f"{IN_ENHANCE}::test_what_the_model_makes_nothing_finite_of_is_refused",
    ),
    Mutant(
        "separation: floats beyond full scale are clipped",
        "lpa_export/formats/audio.py",
        "clipped=_clipped(channels) if bounded else 0",
        "clipped=_clipped(channels)",
        f"{IN_ENHANCE}::test_floats_beyond_full_scale_are_not_clipped_and_a_plateau_is_one_place",
    ),
    Mutant(
        "separation: a self-check that heard nothing has passed",
        "lpa_export/targets/selfcheck.py",
        "if not levels.clips:",
        "if False:",
        "tests/targets/test_selfcheck.py::test_what_is_too_short_for_every_golden_clip_was_not_checked",
    ),
    Mutant(
        "separation: golden clips are all loud",
        GOLDEN,
        "np.float32(_QUIET if number % 2 else 1.0)",
        "np.float32(1.0)",
        f"{IN_EXPORT}::test_the_bundle_says_its_task_and_holds_audio_out",
    ),
    Mutant(
        "separation: golden clips are longer than the artifact takes",
        GOLDEN,
        "    samples = min(samples, longest or samples)\n",
        "",
        f"{IN_EXPORT}::test_golden_clips_are_no_longer_than_the_artifact_takes",
    ),
    Mutant(
        "separation: powers of bfloat16",
        "lpa_export/training/separation/losses.py",
        "model(batch.waveforms).to(sources.dtype)",
        "model(batch.waveforms)",
        BFLOAT16,
    ),
    Mutant(
        "separation: attention of a CPU in bfloat16",
        "lpa_export/hosts/sepformer/model.py",
        'if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):',
        "if False:",
        BFLOAT16,
    ),
    Mutant(
        "separation: a stored list of any values",
        "lpa_export/formats/mixing.py",
        "draws.append(msgspec.convert(vars(draw), Draw))",
        "draws.append(draw)",
        f"{IN_TRAINING}::test_a_stored_list_of_other_values_is_one_line",
    ),
    Mutant(
        "separation: an error of writing names no place",
        "lpa_export/formats/bundle.py",
        "error.filename = str(final)",
        "pass",
        "tests/formats/test_bundle.py::test_what_fails_while_a_bundle_is_written_names_its_folder",
    ),
)
