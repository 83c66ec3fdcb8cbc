# Needs Python 3.11 to 3.13 and make; everything else is made here, from the locks in requirements/.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
.DEFAULT_GOAL := help
# Modules compiled once start a process in a third of the time, and everything here is processes.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help env demo test test-integration test-text lint bench image mutation chaos learning-report lock clean

help: ## Show what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

env: .venv/.ready ## Make .venv from the lock (all but the extras `text` and `compare`)

.venv/.ready: pyproject.toml requirements/dev.txt requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "LiveReco needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + ": set PYTHON=… and try again.")'
	@echo "Making the environment in .venv (once) …"
	@$(PYTHON) -m venv .venv
	@echo "  uv, from requirements/bootstrap.txt …"
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements/bootstrap.txt
	@echo "  the packages of requirements/dev.txt …"
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --require-hashes requirements/dev.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@echo "  compiling what the services import …"
	@$(BIN)/python -c 'from reco.__main__ import COMMANDS, cli; [cli.get_command(None, name) for name in COMMANDS]'
	@touch $@

demo: env ## Watch it learn: broker, store, producer, server and trainer; 15 seconds, the first time 35
	@$(BIN)/reco demo $(ARGS)

test: env ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-integration: env ## Run the tests on a real broker and store, in containers (needs Docker)
	$(BIN)/python -m pytest -n 2 tests/integration $(ARGS)

test-text: ## Compare with TextWiser, in its own environment (.venv-text, 6 GB)
	@test -e .venv-text/.ready || $(PYTHON) -m venv .venv-text
	@test -e .venv-text/.ready || .venv-text/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements/bootstrap.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv-text .venv-text/bin/uv pip sync --quiet --require-hashes requirements/text.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv-text .venv-text/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch .venv-text/.ready
	.venv-text/bin/python -m pytest tests/text -m text $(ARGS)

lint: env ## Style, types and the import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: env ## Measure, as ratios in one run
	$(BIN)/python -m tests.benchmarks $(ARGS)

IMAGE ?= livereco:local
image: ## Build the image of all services, and print its size
	@docker build --quiet --file infra/Dockerfile --tag $(IMAGE) $(foreach name,PYTHON_IMAGE UV_IMAGE,$(if $($(name)),--build-arg $(name))) . >/dev/null
	@docker image inspect --format '$(IMAGE): {{.Size}}' $(IMAGE) | numfmt --to=si --suffix=B --field=2

mutation: env ## Remove each protection in turn: the tests must fail
	$(BIN)/python -m tests.mutation $(ARGS)

learning-report: env .venv-compare/.ready ## Policies and worlds and other libraries: docs/learning.md, hours
	$(BIN)/python -m tests.learning $(ARGS)

.venv-compare/.ready: requirements/compare.txt requirements/bootstrap.txt
	@test -e .venv-compare || $(PYTHON) -m venv .venv-compare
	@.venv-compare/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements/bootstrap.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv-compare .venv-compare/bin/uv pip sync --quiet --require-hashes requirements/compare.txt
	@touch $@

chaos: env ## Faults on a real broker and store, in containers: half an hour; ARGS=--short, four minutes
	@$(BIN)/python -m tests.chaos $(ARGS)

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 --custom-compile-command "make lock"
lock: env ## Resolve the locks anew
	echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" | $(COMPILE) - -o requirements/bootstrap.txt
	$(COMPILE) --extra eval --extra otel --group dev pyproject.toml -o requirements/dev.txt
	$(COMPILE) pyproject.toml -o requirements/run.txt
	echo hatchling | $(COMPILE) - -o requirements/build.txt
	$(COMPILE) --extra text --group dev pyproject.toml -o requirements/text.txt
	$(COMPILE) --extra compare pyproject.toml -o requirements/compare.txt

clean: ## Remove what was made here
	rm -rf .venv .venv-compare .venv-text .learning data .mypy_cache .ruff_cache .pytest_cache .hypothesis
