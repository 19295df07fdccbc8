"""Faults that users met, each brought back: wrong without a word, success that was none, refusals
that did not say why.

The letters are kinds: A is wrong without a word, B success that was none, C a refusal of what is
valid or one that does not say why, D what pages, drawn checkpoints and damaged files get wrong.
"""

from tests.mutants.mutant import Mutant

__all__ = ["TRUST"]

FORMATS, TESTS = "lpa_export/formats", "tests/formats"
PREPROCESSING, IN_PREPROCESSING = f"{FORMATS}/preprocessing.py", f"{TESTS}/test_preprocessing.py"
AS_TRANSFORMERS = f"{IN_PREPROCESSING}::test_it_is_what_transformers_reads"
REFUSED_AUDIO = f"{IN_PREPROCESSING}::test_what_is_no_waveform_at_16_khz_is_refused"
TOKENIZER, IN_TOKENIZER = f"{FORMATS}/tokenizer.py", f"{TESTS}/test_tokenizer.py"
DECODING = f"{IN_TOKENIZER}::test_decoding_is_what_transformers_tokenizer_says"
TEXT, IN_TEXT = f"{FORMATS}/text.py", f"{TESTS}/test_text.py"
RULE, AUDIO, IN_AUDIO = f"{FORMATS}/normaliser.py", f"{FORMATS}/audio.py", f"{TESTS}/test_audio.py"
BUNDLE, IN_BUNDLE = f"{FORMATS}/bundle.py", f"{TESTS}/test_bundle.py"
WEIGHTS, IN_FORMS = f"{FORMATS}/weights.py", f"{TESTS}/test_forms.py"
SOURCE, MODEL_CARD = f"{FORMATS}/source.py", "lpa_export/targets/model_card.py"
USAGE, IN_CARD = "lpa_export/targets/usage.py", "tests/targets/test_model_card.py"
REFERENCE, IN_REFERENCE = "lpa_export/runtimes/torch.py", "tests/runtimes/test_original_model.py"
ENVIRONMENT, IN_PRIVACY = "lpa_export/environment.py", "tests/test_privacy.py"
COMPRESS, IN_COMPRESS = (
    "lpa_export/targets/coreml/compress.py",
    "tests/targets/coreml/test_compress.py",
)
TRANSCRIBE, IN_TRANSCRIBE = "lpa_export/commands/transcribe.py", "tests/commands/test_transcribe.py"
SOUND_FILES = "lpa_export/commands/sound_files.py"
EXPORT, IN_EXPORT = "lpa_export/commands/export.py", "tests/commands/test_export.py"
MEMORY, IN_MEMORY = "lpa_export/runtimes/memory.py", "tests/commands/test_memory.py"
CLI, IN_CLI = "lpa_export/cli.py", "tests/test_cli.py"
CHECKS, IN_VALIDATION = "validation/lpa_validate/checks", "tests/validation"
REPORT, IN_REPORT = "validation/lpa_validate/report.py", f"{IN_VALIDATION}/test_report.py"
PAGE, IN_HTML = "validation/lpa_validate/renderers/html", f"{IN_VALIDATION}/test_html.py"
DRY_RUN = f"{IN_EXPORT}::test_a_dry_run_finds_what_the_export_would_refuse"


TRUST = (
    Mutant(
        "trust A1: do_normalize of processor_config.json ignored",
        PREPROCESSING,
        'for key in ("feature_extractor", "audio_processor"):',
        "for key in ():",
        AS_TRANSFORMERS,
    ),
    Mutant(
        "trust A1: the older of two files wins",
        PREPROCESSING,
        "if isinstance(processor.get(key), dict):",
        "if isinstance(processor.get(key), dict) and not (folder / PREPROCESSOR).is_file():",
        AS_TRANSFORMERS,
    ),
    Mutant(
        "trust A1: another sampling_rate taken for 16 kHz",
        PREPROCESSING,
        "if rate != SAMPLE_RATE:",
        "if not isinstance(rate, int):",
        REFUSED_AUDIO,
    ),
    Mutant(
        "trust A1: sampling_rate of processor_config.json ignored",
        PREPROCESSING,
        'rate = stated.get("sampling_rate", SAMPLE_RATE)',
        'rate = read_json_if_there(folder / PREPROCESSOR).get("sampling_rate", SAMPLE_RATE)',
        REFUSED_AUDIO,
    ),
    Mutant(
        "trust A1: the reference does not read the feature extractor",
        REFERENCE,
        "return AutoFeatureExtractor.from_pretrained(folder, **_LOCAL)",
        "return Wav2Vec2FeatureExtractor()",
        f"{IN_REFERENCE}::test_a_folder_of_transformers_gives_what_transformers_gives",
    ),
    Mutant(
        "trust A1: the reference shares the exporter's loader",
        "validation/lpa_validate/reference.py",
        "self._model = OriginalModel(folder, made_from.language)",
        "self._model = OriginalModel(folder, made_from.language)\n"
        "        from lpa_export.formats import checkpoint\n"
        "        self._model._model = checkpoint.load_checkpoint(folder).model",
        f"{IN_VALIDATION}/test_torch_reference.py",
    ),
    Mutant(
        "trust A2: the blank is id 0",
        TOKENIZER,
        "blank_id = _blank(folder, tokenizer, width, blank)",
        "blank_id = 0",
        f"{IN_REFERENCE}::test_a_model_whose_blank_is_last",
    ),
    Mutant(
        "trust A2: the blank is guessed by its name",
        TOKENIZER,
        "blank_id = _blank(folder, tokenizer, width, blank)",
        'blank_id = max(tokenizer.get_vocab().get(name, 0) for name in ("<pad>", "[PAD]"))',
        f"{DECODING}[blank called _]",
    ),
    Mutant(
        "trust A2: a blank called <epsilon> is printed",
        TOKENIZER,
        '        if index == blank:\n            texts.append("")',
        "        if index == blank:\n            texts.append(_tokens(tokenizer, width)[index])",
        f"{DECODING}[blank called epsilon]",
    ),
    Mutant(
        "trust A2: of two candidates the wrong one",
        TOKENIZER,
        "if pad is not None and pad != blank:",
        "if pad is None:",
        f"{IN_TOKENIZER}::test_a_pad_that_is_not_the_configs_blank_is_named_with_it",
    ),
    Mutant(
        "trust A2: the manifest has another blank",
        "lpa_export/targets/assemble.py",
        "blank_id=vocabulary.blank,",
        "blank_id=0,",
        f"{IN_CARD}::test_the_card_says_what_was_checked_and_how_words_are_parted",
    ),
    Mutant(
        "trust A3: blank 0 in the snippet",
        USAGE,
        """'print("".join(token["text"] for token in spoken).strip())""",
        """'print("".join(token["token"] for token in spoken if token != tokens[0]))""",
        f"{IN_CARD}::test_the_generated_decoding_is_transformers",
    ),
    Mutant(
        "trust A3: | as the word delimiter in the snippet",
        USAGE,
        """'print("".join(token["text"] for token in spoken).strip())""",
        """'print("".join(t["text"] and t["token"] for t in spoken).replace("|", " ").strip())""",
        f"{IN_CARD}::test_the_generated_decoding_is_transformers",
    ),
    Mutant(
        "trust A3: the snippet for ONNX does not print the text",
        "lpa_export/targets/onnx/usage.py",
        "logits = batch[0, : frames[0]]",
        "logits = batch[0, : frames[0] // 2]",
        f"{IN_CARD}::test_the_snippet_prints_what_the_model_says[onnx]",
    ),
    Mutant(
        "trust A3: the snippet for ExecuTorch does not print the text",
        "lpa_export/targets/executorch/usage.py",
        '"logits = outputs[0][0].numpy()"',
        '"logits = outputs[0][0, ::2].numpy()"',
        f"{IN_CARD}::test_the_snippet_prints_what_the_model_says[executorch]",
    ),
    Mutant(
        "trust A3: a card without replaced layers says that attention is replaced",
        MODEL_CARD,
        '    if not checkpoint.replaced_layers:\n        return f"{what}',
        '    if checkpoint.replaced_layers is None:\n        return f"{what}',
        f"{IN_CARD}::test_a_model_with_nothing_replaced_is_not_said_to_be_without_attention",
    ),
    Mutant(
        "trust A4: a Turkish i with and without a dot fall together",
        RULE,
        "ambiguous=tuple(sorted(key for key, found in alike.items() if len(found) > 1)),",
        "ambiguous=(),",
        f"{IN_TEXT}::test_a_letter_that_could_be_two_is_refused_not_guessed",
    ),
    Mutant(
        "trust A4: a final sigma becomes the other one",
        RULE,
        "if changed == letter or len(changed) > 1 or _letter(letter) in self.ambiguous:",
        'letter = letter.replace("\\u03c2", "\\u03c3")\n'
        "        if changed == letter or len(changed) > 1 or _letter(letter) in self.ambiguous:",
        f"{IN_TEXT}::test_each_token_is_spelled_with_itself[Greek]",
    ),
    Mutant(
        "trust A4: SS for a sharp s",
        RULE,
        "if changed == letter or len(changed) > 1 or _letter(letter) in self.ambiguous:",
        "if len(changed) > 1:\n            return changed\n"
        "        if changed == letter or _letter(letter) in self.ambiguous:",
        f"{IN_TEXT}::test_a_letter_that_could_be_two_is_refused_not_guessed",
    ),
    Mutant(
        "trust A4: case is changed that is not one to one",
        RULE,
        'return changed if back == letter or letter == "\\u03c2" else letter',
        "return changed",
        f"{IN_TEXT}::test_a_letter_that_could_be_two_is_refused_not_guessed",
    ),
    Mutant(
        "trust A4: a and A of one vocabulary fall together",
        TEXT,
        "rule = TextRule.of(self.tokens[index] for index in self._spelled)",
        "rule = TextRule()",
        f"{IN_TEXT}::test_each_token_is_spelled_with_itself[both cases]",
    ),
    Mutant(
        "trust A4: case is changed where a vocabulary has both",
        RULE,
        'case=None if upper == lower else "upper" if upper else "lower",',
        'case="upper" if upper else "lower" if lower else None,',
        f"{IN_TEXT}::test_a_letter_that_could_be_two_is_refused_not_guessed",
    ),
    Mutant(
        "trust A4: some token of some vocabulary is not spelled with itself",
        RULE,
        "one_to_one = len(composed) == len(spelled)",
        "one_to_one = True",
        f"{IN_TEXT}::test_each_token_of_any_vocabulary_is_spelled_with_itself",
    ),
    Mutant(
        "trust A4: tokens that are spelled the same are not found",
        TEXT,
        "                if first != index:",
        "                if first > index:",
        f"{IN_TEXT}::test_a_blank_or_delimiter_that_is_not_there_is_refused",
    ),
    Mutant(
        "trust A4: tokens that say the same are not found",
        TEXT,
        "for what in (self._key, self.texts.__getitem__):",
        "for what in (self._key,):",
        f"{IN_TOKENIZER}::test_two_tokens_that_say_the_same_are_named",
    ),
    Mutant(
        "trust A4: a WER of 0 where words differ",
        "lpa_export/measures/word_errors.py",
        "references = [normalise(text) for text in texts]\n"
        "    hypotheses = [normalise(text) for text in transcripts]",
        "references = [normalise(text).upper() for text in texts]\n"
        "    hypotheses = [normalise(text).upper() for text in transcripts]",
        "tests/measures/test_word_errors.py",
    ),
    Mutant(
        "trust A5: the apostrophe of a vocabulary is not looked for",
        RULE,
        "if self.apostrophes:",
        'if self.apostrophes == "\'":',
        f"{IN_TEXT}::test_every_apostrophe_becomes_the_one_that_the_vocabulary_has",
    ),
    Mutant(
        "trust A5: a text is not composed",
        RULE,
        "        if self.unicode:\n",
        "        if self.unicode is None:\n",
        f"{IN_TEXT}::test_composed_and_decomposed_letters_are_the_same",
    ),
    Mutant(
        "trust A5: a vocabulary is not composed",
        TEXT,
        "return self.rule.characters(self.tokens[index])",
        "return self.tokens[index]",
        f"{IN_TEXT}::test_composed_and_decomposed_letters_are_the_same",
    ),
    Mutant(
        "trust A5: NFC against NFD is a word error",
        RULE,
        "        if self.unicode:\n",
        "        if self.unicode is None:\n",
        "tests/measures/test_word_errors.py",
    ),
    Mutant(
        "trust A6: groups that do not divide the channels",
        COMPRESS,
        "return next(size for size in range(GROUP_CHANNELS, 0, -1) if channels % size == 0)",
        "return GROUP_CHANNELS",
        f"{IN_COMPRESS}::test_a_group_is_the_largest_divisor_up_to_16",
    ),
    Mutant(
        "trust A6: palettes in groups of 16 whatever the width",
        COMPRESS,
        "group_size=group_size(channels) if grouped else 0,",
        "group_size=GROUP_CHANNELS if grouped else 0,",
        f"{IN_COMPRESS}::test_widths_that_16_does_not_divide_and_shared_constants_are_compressed_"
        "all_the_same[palette4]",
    ),
    Mutant(
        "trust A6: compressed bytes counted as asked for, Core ML",
        COMPRESS,
        'counts["compressed"] += size * weight.op.op_type.startswith("constexpr_")',
        'counts["compressed"] += size',
        f"{IN_COMPRESS}::test_what_coremltools_passes_over_is_not_counted_as_compressed",
    ),
    Mutant(
        "trust A6: compressed bytes counted as asked for, ONNX",
        "lpa_export/targets/onnx/quantise.py",
        'compressed = found["MatMulInteger"]\n',
        'compressed = sum(found.values()) - found["Conv"] - kept\n',
        "tests/targets/test_quantise.py::"
        "test_the_bytes_that_are_compressed_are_counted_in_the_graph",
    ),
    Mutant(
        "trust A6: the share of compressed bytes has no gate",
        f"{CHECKS}/integrity.py",
        'gated("share of weights compressed", counted.share, gate, ">="),',
        'gated("share of weights compressed", counted.share, None, ">="),',
        f"{IN_VALIDATION}/test_compression.py",
    ),
    Mutant(
        "trust A6: a compressed bundle that says nothing of its bytes passes",
        f"{CHECKS}/integrity.py",
        'return [gated("share of weights compressed", None, gate, ">=")]',
        "return []",
        f"{IN_VALIDATION}/test_compression.py",
    ),
    Mutant(
        "trust A6: a scheme that compresses has no gate for it",
        f"{FORMATS}/schemes.py",
        "if scheme.compresses:",
        'if scheme.weights == "int8":',
        f"{IN_VALIDATION}/test_compression.py::test_every_scheme_that_compresses_has_the_gate",
    ),
    Mutant(
        "trust A7: truncated audio without a warning",
        AUDIO,
        "    if missing:\n",
        "    if missing > MAX_SECONDS:\n",
        f"{IN_AUDIO}::test_a_file_that_is_cut_off_warns_and_says_what_is_missing",
    ),
    Mutant(
        "trust A7: the header's promise is not looked at",
        AUDIO,
        "return round(file.frames * promised / held)",
        "return int(file.frames)",
        f"{IN_AUDIO}::test_a_file_that_is_cut_off_warns_and_says_what_is_missing",
    ),
    Mutant(
        "trust A7: the warning is not shown",
        CLI,
        'warnings.simplefilter("once", LpaWarning)',
        "pass",
        f"{IN_CLI}::test_our_warnings_are_one_line_each_time_something_else_is_wrong",
    ),
    Mutant(
        "trust A7: no field of it in --json",
        TRANSCRIBE,
        "        recording.missing_seconds,\n",
        "        0.0,\n",
        f"{IN_TRANSCRIBE}::test_a_cut_off_file_is_transcribed_with_a_warning_and_a_field",
    ),
    Mutant(
        "trust A7: nothing of it in a report",
        "validation/lpa_validate/evaluation.py",
        "missing_seconds=recording.missing_seconds,",
        "missing_seconds=0.0,",
        f"{IN_VALIDATION}/test_command.py::test_a_recording_that_was_cut_off_stands_in_the_report",
    ),
    Mutant(
        "trust A8: ONNX Runtime's telemetry is left on",
        ENVIRONMENT,
        '"ORT_DISABLE_TELEMETRY": "1", ',
        "",
        f"{IN_PRIVACY}::test_a_session_writes_nothing",
    ),
    Mutant(
        "trust A8: the hub's switch is forgotten",
        ENVIRONMENT,
        ', "HF_HUB_DISABLE_TELEMETRY": "1"',
        "",
        f"{IN_PRIVACY}::test_the_hubs_client_adds_nothing_to_what_it_asks",
    ),
    Mutant(
        "trust A8: worker processes are not told",
        ENVIRONMENT,
        "os.environ.update(_PRIVATE)",
        'os.environ.update(_PRIVATE | ({"ORT_DISABLE_TELEMETRY": "0"} if sys.argv[1:] else {}))',
        f"{IN_PRIVACY}::test_neither_does_one_in_a_process_that_was_started",
    ),
    Mutant(
        "trust A8: validation imported by itself is not told",
        "validation/lpa_validate/__init__.py",
        "from lpa_export.environment import keep_private\n\nkeep_private()\n",
        "",
        f"{IN_PRIVACY}::test_a_session_writes_nothing[lpa_validate]",
    ),
    Mutant(
        "trust A8: the snippet of a model card is not told",
        "lpa_export/targets/usage.py",
        'os.environ["ORT_DISABLE_TELEMETRY"] = "1"',
        "pass",
        f"{IN_PRIVACY}::test_the_snippet_of_a_model_card_writes_nothing",
    ),
    Mutant(
        "trust B9: what is compressed shares its constants",
        COMPRESS,
        "return coreml.OptimizationConfig(op_name_configs=chosen)",
        'return coreml.OptimizationConfig(op_type_configs={"conv": weights(16)})',
        f"{IN_COMPRESS}::test_widths_that_16_does_not_divide_and_shared_constants_are_compressed_"
        "all_the_same[int8]",
    ),
    Mutant(
        "trust B10: tokens lose their white space in tokens.json",
        TEXT,
        '{"token": token, "text": text}',
        '{"token": token.strip(), "text": text.strip("\\n")}',
        f"{IN_TEXT}::test_tokens_json_holds_any_token",
    ),
    Mutant(
        "trust B10: an empty token is no token",
        TEXT,
        'and isinstance(entry.get("token"), str)',
        'and bool(entry.get("token"))',
        f"{IN_VALIDATION}/test_command.py::"
        "test_tokens_that_are_a_line_feed_or_empty_are_read_as_any_other",
    ),
    Mutant(
        "trust B10: tokens.txt has a line more for a line feed",
        TEXT,
        "mark if mark.isprintable() else",
        'mark if mark.isprintable() or mark == "\\n" else',
        f"{IN_TEXT}::test_tokens_txt_shows_each_token_on_a_line_of_its_own",
    ),
    Mutant(
        "trust B10: --dry-run does not ask the target",
        EXPORT,
        "    spec.load().check(loaded, settings, scheme)\n",
        "",
        DRY_RUN,
    ),
    Mutant(
        "trust B10: --dry-run does not find 2 GiB",
        "lpa_export/targets/onnx/target.py",
        "if scheme.compresses and size > settings.max_file_bytes:",
        "if scheme.compresses and size < 0:",
        f"{DRY_RUN}[int8 beyond a file]",
    ),
    Mutant(
        "trust B10: --dry-run does not find 2048 frames",
        "lpa_export/targets/coreml/target.py",
        '        _buckets(parts_of(checkpoint), settings, half=scheme.compute != "fp32")\n\n',
        "\n",
        f"{DRY_RUN}[frames that float16 cannot count]",
    ),
    Mutant(
        "trust B11: memory is not asked for first",
        TRANSCRIBE,
        "ahead=lambda seconds: model.require_memory(min(seconds, most), name),",
        "",
        f"{IN_MEMORY}::test_what_does_not_fit_is_refused_before_it_is_read",
    ),
    Mutant(
        "trust B11: memory is asked for when all is decoded",
        AUDIO,
        "            ahead(file.frames / file.samplerate)\n"
        '            channels = file.read(dtype="float32", always_2d=True)\n',
        '            channels = file.read(dtype="float32", always_2d=True)\n'
        "            _require_sound(channels[:, 0], name)\n"
        "            ahead(file.frames / file.samplerate)\n",
        f"{IN_MEMORY}::test_what_does_not_fit_is_refused_before_it_is_read",
    ),
    Mutant(
        "trust B11: validation does not ask",
        "validation/lpa_validate/run.py",
        "        _require_memory(opened, utterances, jobs)\n",
        "",
        f"{IN_MEMORY}::test_validation_refuses_before_it_begins",
    ),
    Mutant(
        "trust B11: kept attention layers do not count",
        MEMORY,
        "if load.attention_layers else 0",
        "if load.attention_layers > 99 else 0",
        f"{IN_MEMORY}::test_every_term_is_counted_as_by_hand",
    ),
    Mutant(
        "trust B11: another number of frames",
        MEMORY,
        "return load.frames.count(samples, inside=True)",
        "return load.frames.count(samples, inside=True) + 1",
        f"{IN_MEMORY}::test_every_term_is_counted_as_by_hand",
    ),
    Mutant(
        "trust B11: the estimate is half of the peak",
        MEMORY,
        "return round(constant + together(factors.always) + larger)",
        "return round(constant + together(factors.always) + larger / 2)",
        f"{IN_MEMORY}::test_the_estimate_is_within_20_percent_of_the_peak_of_a_process[150]",
    ),
    Mutant(
        "trust B11: a second too many is said to fit",
        MEMORY,
        "    return low\n",
        "    return high\n",
        f"{IN_MEMORY}::test_the_longest_that_fits_is_the_longest",
    ),
    Mutant(
        "trust B12: weights stay in the graph beyond the limit",
        "lpa_export/targets/onnx/target.py",
        "files = save(graph, folder / ARTIFACT, external=external)",
        "files = save(graph, folder / ARTIFACT, external=False)",
        f"{IN_EXPORT}::test_weights_too_large_for_one_file_lie_beside_the_graph",
    ),
    Mutant(
        "trust B12: the file beside the graph is no artifact of the manifest",
        "lpa_export/targets/onnx/external.py",
        "return path.name, beside",
        "return (path.name,)",
        f"{IN_EXPORT}::test_weights_too_large_for_one_file_lie_beside_the_graph",
    ),
    Mutant(
        "trust B13: what a killed export left stays",
        BUNDLE,
        "    _clear_leftovers(target)\n",
        "",
        f"{IN_BUNDLE}::test_the_next_export_clears_what_killed_ones_left",
    ),
    Mutant(
        "trust B13: what a process that runs is writing is cleared",
        BUNDLE,
        "if not found or _is_alive(int(found[1])):",
        "if not found:",
        f"{IN_BUNDLE}::test_the_next_export_clears_what_killed_ones_left",
    ),
    Mutant(
        "trust B13: a bundle that a killed export set aside is lost",
        BUNDLE,
        'if found[2] == "old" and not target.exists():',
        'if found[2] == "older":',
        f"{IN_BUNDLE}::test_an_older_bundle_that_a_killed_process_had_set_aside_comes_back",
    ),
    Mutant(
        "trust B13: a full disk in a library's words",
        BUNDLE,
        "return shutil.disk_usage(folder).free < _NO_ROOM",
        "return False",
        f"{IN_BUNDLE}::test_a_full_disk_is_called_that_and_nothing_is_left",
    ),
    Mutant(
        "trust B13: a full disk leaves half a folder",
        BUNDLE,
        "        full = _is_full(error, temporary)\n"
        "        shutil.rmtree(temporary, ignore_errors=True)\n",
        "        full = _is_full(error, temporary)\n",
        f"{IN_BUNDLE}::test_a_full_disk_is_called_that_and_nothing_is_left",
    ),
    Mutant(
        "trust C14: added_tokens.json is no output",
        TOKENIZER,
        "found = tokenizer.convert_ids_to_tokens(list(range(width)))",
        "found = [t if (t := tokenizer.convert_ids_to_tokens(i)) not in "
        'tokenizer.added_tokens_encoder else "" for i in range(width)]',
        f"{IN_TOKENIZER}::test_tokens_added_behind_the_vocabulary_are_the_heads_last_outputs",
    ),
    Mutant(
        "trust C14: a vocab_size above the vocabulary is refused",
        TOKENIZER,
        "if unnamed > width - unnamed:",
        "if unnamed:",
        f"{DECODING}[outputs without a name]",
    ),
    Mutant(
        "trust C14: the delimiter of tokenizer_config.json is lost",
        TOKENIZER,
        "        tokenizer._word_delimiter_token = text\n",
        '        tokenizer._word_delimiter_token = "|"\n',
        f"{DECODING}[another delimiter]",
    ),
    Mutant(
        "trust C14: no delimiter is taken for the usual one",
        TOKENIZER,
        "        tokenizer._word_delimiter_token = text\n",
        '        tokenizer._word_delimiter_token = text or "|"\n',
        f"{DECODING}[no delimiter, but a bar]",
    ),
    Mutant(
        "trust C14: shards of a folder are not found",
        WEIGHTS,
        "    if (folder / INDEX).is_file():\n",
        "    if not folder:\n",
        f"{IN_FORMS}::test_shards_load_like_one_file",
    ),
    Mutant(
        "trust C14: shards are not asked of the hub",
        SOURCE,
        "wanted = [CONFIG, WEIGHTS, INDEX, _SHARDS, ",
        "wanted = [CONFIG, WEIGHTS, INDEX, ",
        f"{IN_FORMS}::test_every_file_that_is_read_is_asked_of_the_hub",
    ),
    Mutant(
        "trust C14: leftovers of pre-training are refused",
        WEIGHTS,
        '    "project_q.",\n',
        "",
        f"{IN_FORMS}::test_what_pretraining_left_behind_is_passed_over",
    ),
    Mutant(
        "trust C14: --language does not choose",
        TOKENIZER,
        'chosen = language or settings.get("target_lang")',
        'chosen = settings.get("target_lang")',
        f"{IN_TOKENIZER}::test_nested_vocabularies_are_chosen_by_language",
    ),
    Mutant(
        "trust C14: --language does not reach the loader",
        EXPORT,
        "loaded = _load(checkpoint, language)",
        "loaded = _load(checkpoint, None)",
        f"{IN_EXPORT}::test_a_bad_argument_is_one_line_and_nothing_is_written[a language of one]",
    ),
    Mutant(
        "trust C15: a model without a CTC head is not called that",
        WEIGHTS,
        "if set(HEAD) <= set(missing):",
        "if set(HEAD) < set():",
        f"{IN_FORMS}::test_an_encoder_without_a_head_is_said_to_be_one",
    ),
    Mutant(
        "trust C15: a LoRA adapter alone is not called that",
        WEIGHTS,
        'if (folder / "adapter_config.json").is_file():',
        "if not folder:",
        f"{IN_FORMS}::test_lora_adapters_are_told_how_they_are_merged",
    ),
    Mutant(
        "trust C15: LoRA adapters beside the weights are not called that",
        WEIGHTS,
        'if any("lora_" in name or ".base_layer." in name for name in unknown):',
        "if not path:",
        f"{IN_FORMS}::test_lora_adapters_are_told_how_they_are_merged",
    ),
    Mutant(
        "trust C15: pickled weights are not called that",
        WEIGHTS,
        "    if pickles:\n",
        "    if not folder:\n",
        f"{IN_FORMS}::test_pickled_weights_are_told_how_to_convert_them",
    ),
    Mutant(
        "trust C15: pickled weights on the hub are not called that",
        SOURCE,
        "    if pickles:\n",
        "    if not hub_id:\n",
        f"{IN_FORMS}::test_a_repository_of_pickles_is_said_to_be_one",
    ),
    Mutant(
        "trust C15: families that are known are not named",
        "lpa_export/hosts/__init__.py",
        "known: {', '.join(HOSTS)}",
        "known: {next(iter(HOSTS))}",
        f"{IN_FORMS}::test_a_family_that_is_not_known_names_those_that_are",
    ),
    Mutant(
        "trust C16: another type of feature extractor is taken",
        PREPROCESSING,
        "if kind != _EXTRACTOR:",
        "if not isinstance(kind, str):",
        REFUSED_AUDIO,
    ),
    Mutant(
        "trust C16: another feature_size is taken",
        PREPROCESSING,
        "if size != 1:",
        "if size == 0:",
        REFUSED_AUDIO,
    ),
    Mutant(
        "trust C16: a sampling_rate that is no number is taken",
        PREPROCESSING,
        "if rate != SAMPLE_RATE:",
        "if isinstance(rate, int) and rate != SAMPLE_RATE:",
        REFUSED_AUDIO,
    ),
    Mutant(
        "trust C17: a bad file ends the call for all",
        SOUND_FILES,
        "            if refused is None:\n                raise\n",
        "            raise\n",
        f"{IN_TRANSCRIBE}::test_json_has_an_entry_for_a_bad_file_too",
    ),
    Mutant(
        "trust C17: a bad file is not listed",
        SOUND_FILES,
        "        print_error(prog, str(error))\n",
        "",
        f"{IN_TRANSCRIBE}::test_one_bad_file_is_listed_and_the_others_are_transcribed"
        "[onnx-no byte]",
    ),
    Mutant(
        "trust C17: exit code 0 in spite of a bad file",
        SOUND_FILES,
        "return COULD_NOT_RUN if refused else PASSED",
        "return PASSED",
        f"{IN_TRANSCRIBE}::test_json_has_an_entry_for_a_bad_file_too",
    ),
    Mutant(
        "trust C17: lpa-validate refuses silent clips",
        "validation/lpa_validate/evaluation.py",
        "sample_rate=manifest.sample_rate, silence=True)",
        "sample_rate=manifest.sample_rate)",
        f"{IN_VALIDATION}/test_silence.py",
    ),
    Mutant(
        "trust C17: words out of silence pass",
        f"{CHECKS}/silence.py",
        'Figure(name, found, gate=0, comparison="==", flag=original > 0)',
        'Figure(name, found, gate=0, comparison=">=", flag=original > 0)',
        f"{IN_VALIDATION}/test_silence.py::test_words_out_of_nothing_fail",
    ),
    Mutant(
        "trust C17: - is a file",
        TRANSCRIBE,
        "piped = str(path) == STANDARD_INPUT",
        "piped = path is STANDARD_INPUT",
        f"{IN_TRANSCRIBE}::test_standard_input_is_read_like_a_file",
    ),
    Mutant(
        "trust C17: channels of opposite phase are called silent",
        AUDIO,
        "    _require_in_phase(channels, mono, name)\n",
        "",
        f"{IN_AUDIO}::"
        "test_channels_of_almost_opposite_phase_are_refused_and_a_silent_channel_is_not",
    ),
    Mutant(
        "trust C18: ExecuTorch breaks on audio below its shortest",
        "lpa_export/runtimes/executorch/runner.py",
        "        require_frames(waveform, self.min_samples, _THIS)\n",
        "",
        f"{IN_VALIDATION}/executorch/test_runner.py::"
        "test_audio_beyond_the_limits_is_refused_with_its_length_and_the_limit",
    ),
    Mutant(
        "trust C18: lpa-transcribe does not ask what an artifact takes at least",
        TRANSCRIBE,
        "min_samples=runner.min_samples,",
        "min_samples=manifest.frames.receptive_field,",
        f"{IN_VALIDATION}/test_command.py::"
        "test_what_an_artifact_takes_at_least_is_said_in_the_same_words_by_every_command",
    ),
    Mutant(
        "trust C18: lpa-validate does not ask what an artifact takes at least",
        "validation/lpa_validate/evaluation.py",
        "shortest = self.runner.min_samples if self.runner else manifest.frames.receptive_field",
        "shortest = manifest.frames.receptive_field",
        f"{IN_VALIDATION}/test_command.py::"
        "test_what_an_artifact_takes_at_least_is_said_in_the_same_words_by_every_command",
    ),
    Mutant(
        "trust C19: paths in 'next' are not quoted",
        EXPORT,
        "{shlex.join([*validate, *reference])}",
        "{' '.join([*validate, *reference])}",
        f"{IN_EXPORT}::test_what_to_do_next_can_be_pasted_into_a_shell",
    ),
    Mutant(
        "trust C19: a flag written wrong is not named",
        CLI,
        "            self._require_known(given)\n",
        "            pass\n",
        f"{IN_CLI}::test_a_flag_written_wrong_is_named_with_the_one_it_is_like",
    ),
    Mutant(
        "trust C19: the flag that was meant is not named",
        CLI,
        'hint = f"; did you mean {close[0]}?" if close else ""',
        'hint = ""',
        f"{IN_CLI}::test_a_flag_written_wrong_is_named_with_the_one_it_is_like",
    ),
    Mutant(
        "trust C19: --buckets abc is called unexpected",
        "lpa_export/targets/settings.py",
        """raise ArgumentTypeError(f"expected numbers as 5,10; found {text!r}") from None""",
        "raise",
        f"{IN_EXPORT}::test_a_bad_argument_is_one_line_and_nothing_is_written"
        "[buckets that are no numbers]",
    ),
    Mutant(
        "trust C19: 'all' is not in the list of targets",
        "lpa_export/targets/__init__.py",
        "known targets: {', '.join(known)}, or {ALL} of them",
        "known targets: {', '.join(known)}",
        "tests/targets/test_registry.py::"
        "test_an_unknown_target_is_refused_with_the_known_ones_named",
    ),
    Mutant(
        "trust C19: Ctrl-C speaks of no command",
        CLI,
        'print_error(prog, "; ".join(filter(None, ["interrupted", interrupted])))',
        'print_error(prog, "interrupted; run it again")',
        f"{IN_CLI}::test_an_interrupt_speaks_of_the_command",
    ),
    Mutant(
        "trust C19: a mistake in a recipe is said when torch is there",
        EXPORT,
        "    spec.require()\n    read = _recipe(recipe)\n",
        "    spec.require()\n    import torch\n    read = _recipe(recipe)\n",
        f"{IN_EXPORT}::test_a_mistake_in_a_recipe_is_said_within_two_seconds"
        "[export --target coreml]",
    ),
    Mutant(
        "trust C19: --help has one example",
        CLI,
        '"\\n".join(f"  {line}" for line in examples)',
        '"\\n".join(f"  {line}" for line in examples[:1])',
        f"{IN_CLI}::test_every_help_ends_with_two_examples_that_parse",
    ),
    Mutant(
        "trust C19: one word of too few fails a gate",
        f"{CHECKS}/wer.py",
        "return words >= words_to_judge(gate) or difference <= gate or interval.low > gate",
        "return True",
        f"{IN_VALIDATION}/test_few_words.py",
    ),
    Mutant(
        "trust C19: another number of words is enough",
        f"{CHECKS}/wer.py",
        "return math.ceil(round(100 / gate, 6)) if gate > 0 else 1",
        "return math.floor(round(100 / gate, 6)) if gate > 0 else 1",
        f"{IN_VALIDATION}/test_few_words.py",
    ),
    Mutant(
        "trust C19: what is not judged is a pass",
        REPORT,
        '"unjudged": 1,',
        '"unjudged": 0,',
        f"{IN_REPORT}::test_what_could_not_be_judged_is_exit_code_one_unless_allowed",
    ),
    Mutant(
        "trust C19: --allow-unjudged allows nothing",
        REPORT,
        'if "unjudged" in statuses and not self.allow_unjudged:',
        'if "unjudged" in statuses:',
        f"{IN_REPORT}::test_what_could_not_be_judged_is_exit_code_one_unless_allowed",
    ),
    Mutant(
        "trust C19: --allow-unjudged allows other gates to fail",
        REPORT,
        'if "fail" in statuses:',
        'if "fail" in statuses and not self.allow_unjudged:',
        f"{IN_REPORT}::test_what_could_not_be_judged_is_exit_code_one_unless_allowed",
    ),
    Mutant(
        "trust D: drawn checkpoints are all called the same",
        "tests/fuzz/configurations.py",
        "        if far.mean() > (_FLIPPED_SHARE if replaced else 0):\n",
        "        if far.mean() > 1:\n",
        "tests/fuzz/test_configurations.py::test_a_planted_fault_of_the_loader_is_found",
    ),
    Mutant(
        "trust D: drawn checkpoints are not normalised as they say",
        PREPROCESSING,
        "return Preprocessing(normalize, SAMPLE_RATE, float(padding))",
        "return Preprocessing(True, SAMPLE_RATE, float(padding))",
        "tests/fuzz/test_configurations.py::"
        "test_reference_and_loader_say_what_transformers_says[3]",
    ),
    Mutant(
        "trust D: a damaged file that raises anything is well",
        "tests/fuzz/hostile.py",
        'found = ("wrong", f"{type(error).__name__}: {str(error)[:300]}")',
        'found = ("fine", "")',
        "tests/fuzz/test_hostile.py::test_a_planted_fault_is_seen[raises]",
    ),
    Mutant(
        "trust D: a damaged file that writes elsewhere is well",
        "tests/fuzz/hostile.py",
        "        if outside:\n",
        "        if not scratch:\n",
        "tests/fuzz/test_hostile.py::test_a_planted_fault_is_seen[writes_elsewhere]",
    ),
    Mutant(
        "trust D: a damaged file that hangs is well",
        "tests/fuzz/hostile.py",
        'return "wrong", f"hangs: {CPU_SECONDS} s of CPU time"',
        'return "fine", ""',
        "tests/fuzz/test_hostile.py::test_a_planted_fault_is_seen[loops]",
    ),
    Mutant(
        "trust D: half of a bundle after a kill is well",
        "tests/fuzz/kills.py",
        "    if damaged or _digest(out) != digest:\n",
        "    if not digest:\n",
        "tests/fuzz/test_kills.py::test_half_of_a_bundle_a_lost_or_another_one_is_not",
    ),
    Mutant(
        "trust D: another bundle after a kill is well",
        "tests/fuzz/kills.py",
        "    if damaged or _digest(out) != digest:\n",
        "    if damaged:\n",
        "tests/fuzz/test_kills.py::test_half_of_a_bundle_a_lost_or_another_one_is_not",
    ),
    Mutant(
        "trust D: a bundle lost by a kill is well",
        "tests/fuzz/kills.py",
        "missing = older or code == 0",
        "missing = code == 0",
        "tests/fuzz/test_kills.py::test_half_of_a_bundle_a_lost_or_another_one_is_not",
    ),
    Mutant(
        "trust D: text of a checkpoint becomes markup",
        f"{PAGE}/elements.py",
        'tostring(page, encoding="unicode", method="html") + "\\n"',
        '__import__("html").unescape(tostring(page, encoding="unicode", method="html")) + "\\n"',
        f"{IN_HTML}::test_no_text_becomes_markup",
    ),
    Mutant(
        "trust D: the page asks the network for something",
        f"{PAGE}/elements.py",
        'element("link", rel="icon", href="data:,"),',
        'element("link", rel="icon", href="https://example.org/icon.png"),',
        f"{IN_HTML}::test_no_text_becomes_markup",
    ),
    Mutant(
        "trust D: a script on the page is run",
        f"{PAGE}/elements.py",
        '        element("meta", http_equiv="Content-Security-Policy", content=_HTML_POLICY),\n',
        "",
        f"{IN_HTML}::test_what_a_page_must_not_hold_is_complained_about",
    ),
    Mutant(
        "trust D: the page leaves a check out",
        f"{PAGE}/page.py",
        "*map(_check, report.checks),",
        "*map(_check, report.checks[:-1]),",
        f"{IN_HTML}::test_every_section_has_what_the_report_has",
    ),
    Mutant(
        "trust D: changed words are not marked on the page",
        f"{PAGE}/words.py",
        '**({} if same else {"class_": "changed"})',
        "**{}",
        f"{IN_HTML}::test_only_words_that_differ_are_marked",
    ),
    Mutant(
        "trust D: words on the page are not aligned",
        f"{PAGE}/words.py",
        "added.setdefault(chunk.ref_start_idx, []).extend(found)",
        "added.setdefault(0, []).extend(found)",
        f"{IN_HTML}::test_words_stand_under_the_words_they_were_heard_for",
    ),
    Mutant(
        "trust D: a broken tap is drawn as any other",
        f"{PAGE}/plots.py",
        "    if math.isnan(value):\n",
        "    if value == math.nan:\n",
        f"{IN_HTML}::test_every_section_has_what_the_report_has",
    ),
    Mutant(
        "trust D: parts of the strip have other shares",
        f"{PAGE}/plots.py",
        "width = _WIDTH * share\n",
        "width = _WIDTH * share / 2\n",
        f"{IN_HTML}::test_a_strip_per_function_has_its_runs_in_their_shares",
    ),
    Mutant(
        "trust D: bundles of other models are siblings",
        "validation/lpa_validate/beside.py",
        "        if manifest.model == model\n",
        "        if manifest.model\n",
        f"{IN_HTML}::test_sizes_are_those_of_the_bundles_beside_it",
    ),
    Mutant(
        "trust D: a benchmark of another artifact is this one's time",
        "validation/lpa_validate/beside.py",
        "if manifest is not None and not _is_of(found, manifest):",
        "if manifest is None:",
        f"{IN_HTML}::test_time_is_that_of_the_benchmark_beside_it",
    ),
    Mutant(
        "trust D: time that was not measured is not called that",
        f"{PAGE}/page.py",
        '        yield element("p", beside.unmeasured)\n',
        '        yield element("p", "")\n',
        f"{IN_HTML}::test_every_section_has_what_the_report_has",
    ),
)
