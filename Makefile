# make demo   export the shipped model to ONNX, validate it, print the report
# make check  linter, type checker and the fast tests: under two minutes on two cores
# make test   linter, type checker and every test but the slow ones: what CI runs
# make slow   the slow ones
# make fuzz   drawn checkpoints, damaged files, kills: hours, goes on where it was stopped
# make swift  Swift 6 for ios_demo in build/swift, beside the system (Linux; root and debootstrap)
# make ios    a Core ML bundle into the demo app, and all of ios_demo that runs on this machine
# make data   synthetic training voices (needs espeak-ng)
#
# Each makes its own virtual environment first; .venv is reused when it is there.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What is imported is compiled then: compiling all of it takes a third of an installation.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile

SOURCES := lpa_export validation tests
FAST := $(addprefix tests/,formats hosts layers measures test_pages.py test_rooms.py targets/test_skeleton.py \
	targets/test_batched.py validation/test_report.py)

.PHONY: demo check test suite ios slow fuzz lint data swift
.DEFAULT_GOAL := demo

demo: $(VENV)/.demo-installed
	$(BIN)/lpa-export --target onnx --overwrite
	$(BIN)/lpa-validate --target onnx --bundle build/an4-tiny/onnx

check: lint
	$(BIN)/python -m pytest -q -n auto $(FAST)

# Linter and type checker keep one core busy; the tests need not wait for them.
test: $(VENV)/.test-installed
	@$(MAKE) --no-print-directory -j2 lint suite
	@ios_demo/scripts/swift.sh available || test -z "$$CI"

suite: $(VENV)/.test-installed
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder --durations=20

ios: $(VENV)/.test-installed
	$(BIN)/lpa-export --target onnx --overwrite
	$(BIN)/lpa-export --target coreml --taps outputs --overwrite
	$(BIN)/lpa-bundle --target all --bundle build/an4-tiny/coreml --app ios_demo
	ios_demo/scripts/swift.sh build
	ios_demo/scripts/swift.sh test --skip-build --disable-xctest --quiet
	@if [ "$$(uname -s)" = Darwin ]; then runs=coreml; else runs=onnx; fi; \
		ios_demo/scripts/swift.sh demo replay --bundle build/an4-tiny/$$runs

swift:
	ios_demo/scripts/install-swift.sh "$${SWIFT_ROOT:-build/swift}"

slow: $(VENV)/.test-installed
	$(BIN)/python -m pytest -q -m slow

# Each run has a log of its own; its summary says how many, how long and what was wrong.
fuzz: $(VENV)/.test-installed
	$(BIN)/python -m tests.fuzz.configurations --count 1000 --target reference,onnx --log build/fuzz/onnx.jsonl
	$(BIN)/python -m tests.fuzz.configurations --count 100 --target coreml,executorch --log build/fuzz/compiled.jsonl
	$(BIN)/python -m tests.fuzz.hostile --count 1000 --log build/fuzz/hostile.jsonl
	$(BIN)/python -m tests.fuzz.kills --count 200 --log build/fuzz/kills.jsonl

lint: $(VENV)/.test-installed
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

data: $(VENV)/.demo-installed
	$(BIN)/python -m lpa_export.training.synthesis train --out build/synthetic

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than pyproject.toml, so a second run installs nothing.
$(VENV)/.demo-installed: pyproject.toml | $(BIN)/python
	$(INSTALL) -e .
	touch $@

# Few systems have wheels of the OPTIONAL extras; elsewhere their tests are skipped, but for MLX's in
# CI, which must run. What flashlight-text is without a wheel takes a compiler and KenLM.
OPTIONAL := mlx coreai lm
$(VENV)/.test-installed: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[test]'
	@for extra in $(OPTIONAL); do \
		$(INSTALL) --only-binary flashlight-text -e ".[$$extra]" && continue; \
		echo "extra $$extra cannot be installed here: its tests will be skipped" >&2; \
		test -z "$$CI" || test $$extra != mlx || exit 1; \
	done
	touch $@ $(VENV)/.demo-installed
