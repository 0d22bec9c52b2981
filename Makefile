# One command per chore; `make help` lists them. Everything lives in this folder: .venv, .venv-bench and build/.
# Needed beforehand: Python 3.10 or newer, a C++20 compiler (GCC or Clang) and make. CMake and Ninja come from PyPI.

PYTHON ?= python3
# Warnings of the C++ compiler fail the build in CI; a newer compiler's new warning must not stop anybody else.
WERROR ?= $(if $(CI),ON,OFF)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
BENCH_VENV := .venv-bench
CMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" cmake
CTEST := PATH="$(CURDIR)/$(BIN):$$PATH" ctest

# Folders are listed too: their time changes when a file is added, renamed or removed.
NATIVE_SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc cmake)
PYTHON_SOURCES := $(shell find src -not -path '*/__pycache__*')
CPP_FORMATTED = $(shell find csrc tests/cpp tools -name '*.h' -o -name '*.cc')

# What `make test` tests beside the core; `make test FRAMEWORKS= BACKENDS=` leaves them all out.
FRAMEWORKS ?= torch jax tensorflow
BACKENDS ?= numpy tensorflow jax torch

# Processes that share the core's tests, and frameworks that are tested at a time; `make test PYTEST_ARGS="-n 0 --pdb"`
# has one for the core, to look into.
WORKERS ?= 2

# A stamp stands for a finished step and is remade when what it depends on is newer.
TOOLS := $(VENV)/.tools
PACKAGE := $(VENV)/.package
TESTED := $(VENV)/.frameworks
LINTERS := $(VENV)/.linters

.DEFAULT_GOAL := help
.PHONY: help build demo test lint format stubs cpp sanitize neon bench networks docs wheel wheels clean

help:  ## List the chores
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

build: $(PACKAGE)  ## Compile the package and install it, editable, in .venv

demo: $(PACKAGE)  ## Run the main job on a real photograph and show what it made
	$(BIN)/depthwise demo

# A process per framework, for they share threads and signals badly, and per backend of Keras, which has one per process.
# PYTEST_ARGS may leave one of them nothing to run, which pytest says with exit status 5.
NONE_LEFT = $(if $(strip $(PYTEST_ARGS)),|| [ $$? = 5 ])
test: $(if $(strip $(FRAMEWORKS) $(BACKENDS)),$(TESTED),$(PACKAGE))  ## Run the tests (PYTEST_ARGS="-k name" narrows them, FRAMEWORKS= BACKENDS= leaves those out)
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS) $(NONE_LEFT)
	$(if $(IN_FRAMEWORKS),@$(MAKE) --no-print-directory --jobs=$(WORKERS) --output-sync=target $(IN_FRAMEWORKS))
	$(if $(strip $(FRAMEWORKS)),$(BIN)/python -m pytest $(PYTEST_ARGS) tests/frameworks $(NONE_LEFT))

# `test` in one framework, or in Keras on one backend.
IN_FRAMEWORKS := $(BACKENDS:%=test-keras-on-%) $(FRAMEWORKS:%=test-%)
.PHONY: $(IN_FRAMEWORKS)
$(FRAMEWORKS:%=test-%): test-%:
	@echo "--- $*"
	@$(BIN)/python -m pytest $(PYTEST_ARGS) tests/$* src/depthwise/$* docs/$*.md $(NONE_LEFT)
$(BACKENDS:%=test-keras-on-%): test-keras-on-%:
	@echo "--- keras on $*"
	@KERAS_BACKEND=$* $(BIN)/python -m pytest $(PYTEST_ARGS) tests/keras src/depthwise/keras docs/keras.md $(NONE_LEFT)

lint: $(LINTERS)  ## Check style, types and the compiled module's stub; changes nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP_FORMATTED)
	$(BIN)/python -m nanobind.stubgen -q --exclude-values -m depthwise._native -o build/_native.pyi
	$(BIN)/ruff format -q build/_native.pyi
	diff -u src/depthwise/_native.pyi build/_native.pyi

format: $(LINTERS)  ## Rewrite the sources in the house's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP_FORMATTED)

stubs: $(LINTERS)  ## Write src/depthwise/_native.pyi anew from the compiled module
	$(BIN)/python -m nanobind.stubgen -q --exclude-values -m depthwise._native -o src/depthwise/_native.pyi
	$(BIN)/ruff format -q src/depthwise/_native.pyi

cpp: $(TOOLS)  ## Run the C++ tests on every instruction set of this CPU, arrays flush against unreadable pages
	@$(MAKE) --no-print-directory cpp-tests BUILD=build/cpp

sanitize: $(TOOLS)  ## Run the C++ tests under the address, undefined-behaviour and thread sanitizers
	@$(MAKE) --no-print-directory cpp-tests BUILD=build/asan FLAGS="-DDEPTHWISE_SANITIZE=address,undefined"
	@$(MAKE) --no-print-directory cpp-tests BUILD=build/tsan FLAGS="-DDEPTHWISE_SANITIZE=thread"

neon: $(TOOLS)  ## Cross-compile the C++ tests for 64-bit Arm and run them under QEMU
	@$(MAKE) --no-print-directory cpp-tests BUILD=build/neon FLAGS="-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake"

.PHONY: cpp-tests
cpp-tests:
	$(CMAKE) -S . -B $(BUILD) -G Ninja --log-level=WARNING -DDEPTHWISE_BUILD_PYTHON=OFF -DDEPTHWISE_BUILD_TESTS=ON \
	  -DDEPTHWISE_WERROR=ON $(FLAGS)
	$(CMAKE) --build $(BUILD)
	$(CTEST) --test-dir $(BUILD) --no-tests=error --verbose --parallel $(WORKERS)

bench: $(BENCH_VENV)/.package  ## Hold the package against its speed targets and its peers, in .venv-bench (BENCH_ARGS="--help" for options)
	$(BENCH_VENV)/bin/python -m benchmarks.suite $(BENCH_ARGS)

networks: $(BENCH_VENV)/.package  ## Time whole networks, stock and accelerated, and the layer between other operations
	$(BENCH_VENV)/bin/python -m benchmarks.models $(BENCH_ARGS)
	$(BENCH_VENV)/bin/python -m benchmarks.interplay

docs: $(TESTED)  ## Write the API reference as HTML into build/docs
	$(PIP) install --quiet "pdoc>=15"
	$(BIN)/pdoc --docformat google -o build/docs depthwise '!depthwise._native'

wheel: build/.wheel  ## Build this interpreter's wheel into dist/

wheels: $(TOOLS)  ## Build the release wheels of this platform with cibuildwheel (Linux: needs Docker)
	$(PIP) install --quiet "cibuildwheel==4.3.*"
	$(BIN)/cibuildwheel --output-dir wheelhouse

clean:  ## Remove everything that was made here
	rm -rf $(VENV) $(BENCH_VENV) build dist wheelhouse .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(TOOLS):
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet scikit-build-core nanobind "numpy>=2" "jaxlib>=0.6,<0.11" cmake ninja
	@touch $@

# Editable: Python sources are live, so only a change of the C++ ones (or of the set-up) leads here again.
$(PACKAGE): $(TOOLS) $(NATIVE_SOURCES)
	SKBUILD_CMAKE_DEFINE=DEPTHWISE_WERROR=$(WERROR) \
	  $(PIP) install --quiet --no-build-isolation --editable ".[test]"
	@touch $@

$(TESTED): $(PACKAGE)
	SKBUILD_CMAKE_DEFINE=DEPTHWISE_WERROR=$(WERROR) \
	  $(PIP) install --quiet --no-build-isolation --editable ".[test,frameworks]"
	@touch $@

$(LINTERS): $(PACKAGE)
	SKBUILD_CMAKE_DEFINE=DEPTHWISE_WERROR=$(WERROR) \
	  $(PIP) install --quiet --no-build-isolation --editable ".[dev]"
	@touch $@

build/.wheel: $(PACKAGE) $(PYTHON_SOURCES)
	rm -f dist/*.whl
	SKBUILD_CMAKE_DEFINE=DEPTHWISE_WERROR=$(WERROR) \
	  $(PIP) wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .
	@touch $@

# The benchmark measures the wheel, as users get it, next to its peers.
$(BENCH_VENV)/.peers: benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(BENCH_VENV)/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	@touch $@

$(BENCH_VENV)/.package: $(BENCH_VENV)/.peers build/.wheel
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*.whl
	@touch $@
