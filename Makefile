# Everything is set up by the first target that needs it: a virtual environment in .venv, with uv in it, the
# locked Python packages, Node from PATH or from its wheel, and the locked chain tools.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
MEMBERS := shared services/hub services/storage services/vault services/trainer services/verifier services/reward services/dashboard client
EDITABLE := $(addprefix -e ,$(MEMBERS))
PROJECTS := pyproject.toml $(addsuffix /pyproject.toml,$(MEMBERS))
PACKAGES := shared/agorai_shared $(wildcard services/*/agorai_*) client/agorai tests benchmarks
SUITES := $(wildcard shared/tests services/*/tests) contracts/tools

export PATH := $(CURDIR)/$(BIN):$(PATH)
export UV_PROJECT_ENVIRONMENT := .venv

.PHONY: help demo test chaos containers lint format bench contracts contracts-check lock export setup clean kubo helm helia flower flower-simulation
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: .venv/.run node_modules/.ready ## Set up, and run every paper's flow on this machine
	@$(BIN)/agorai demo $(DEMO)

setup: .venv/.dev node_modules/.ready ## Set up everything for development

# The contracts' tests run beside the others, on bytecode that one of those proves to be the source's.
test: setup flower ## Set up, and run every test
	@told=$$(mktemp); (cd contracts && FORGE_SNAPSHOT_CHECK=true tools/foundry forge test --isolate) >$$told 2>&1 & forge=$$!; \
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST); status=$$?; \
	wait $$forge || status=1; cat $$told; rm $$told; exit $$status

lint: setup ## Check style, types, the arrows between packages, and the contracts' style
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(PACKAGES)
	@for suite in $(SUITES); do MYPYPATH=contracts/tools $(BIN)/mypy $$suite || exit 1; done
	@$(BIN)/lint-imports
	@cd contracts && tools/foundry forge fmt --check && tools/foundry forge lint --deny warnings

format: setup ## Bring everything into style
	@$(BIN)/ruff check --fix-only -q . && $(BIN)/ruff format -q .
	@cd contracts && tools/foundry forge fmt

chaos: contracts-check ## Kill services, try decoders and contracts with what is foreign to them, many more times than `make test`
	@cd contracts && FOUNDRY_PROFILE=long tools/foundry forge test --match-path 'test/{fuzz,invariant}/*'
	@AGORAI_TEST_FUZZ=80 $(BIN)/pytest -o timeout=0 shared/tests/test_dag_pb.py shared/tests/test_unixfs.py \
	  shared/tests/test_file_reader.py shared/tests/test_directory.py shared/tests/test_dag.py shared/tests/test_car.py
	@AGORAI_TEST_KILLS=100 $(BIN)/pytest services/hub/tests/test_kill.py services/vault/tests/test_kill.py \
	  services/storage/tests/test_kill.py
	@AGORAI_TEST_KILLS=25 $(BIN)/pytest -o timeout=0 tests/test_outages.py tests/test_replicas.py
	@AGORAI_TEST_KILLS=12 $(BIN)/pytest -o timeout=0 tests/test_task_kills.py
	@AGORAI_TEST_FLOWS=500 $(BIN)/pytest -s tests/test_load.py
	@AGORAI_TEST_TRADES=5000 $(BIN)/pytest -o timeout=0 tests/simulation

containers: setup ## Build the images and run a whole node in containers; needs a Docker engine, and a base image or debootstrap
	@AGORAI_TEST_CONTAINERS=1 $(BIN)/pytest -s -o timeout=0 tests/test_deploy_containers.py

helm: ## Build Helm, by which the chart is tested; needs Go
	@tools/helm/build

kubo: ## Build Kubo, of which the storage service's tests and benchmark use a real daemon; needs Go
	@tools/kubo/build

helia: tools/helia/node_modules/.ready ## Install Helia, with which tests compare CIDs

flower: .flower/.ready ## Install Flower, with which tests compare strategies, in an environment of its own

flower-simulation: .flower-simulation/.ready ## Install Flower with its simulation, with which a benchmark compares

bench: setup flower-simulation ## Measure, beside peers, and print one JSON object for each benchmark
	@for file in benchmarks/[a-z]*.py; do name=$$(basename $$file .py); \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

contracts: setup ## Build the contracts and write ABI, bytecode and Python bindings anew
	@$(BIN)/python contracts/tools/bindings.py
	@cd contracts && tools/foundry forge test --isolate

contracts-check: setup ## Prove that the checked-in ABI, bytecode and bindings match the source
	@$(BIN)/python contracts/tools/bindings.py --check

lock: $(UV) ## Resolve the Python dependencies anew; the exports carry hashes and no addresses
	@$(UV) lock --upgrade
	@for name in requirements requirements-simulation; do $(UV) pip compile -q --upgrade --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate tests/flower/$$name.in -o tests/flower/$$name.lock || exit 1; done
	@$(MAKE) --no-print-directory export

export: $(UV)
	@$(UV) export -q --frozen --no-header --no-emit-workspace --all-packages --no-dev -o requirements.lock
	@$(UV) export -q --frozen --no-header --no-emit-workspace --all-packages --all-groups --all-extras -o requirements-dev.lock

clean: ## Remove everything that was set up or built
	@rm -rf .venv .flower .flower-simulation node_modules tools/helia/node_modules contracts/out contracts/cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV): requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15) and "Agorai needs CPython 3.11 to 3.14, " \
	  "this is " + sys.version.split()[0] + ": name another with make PYTHON=...")'
	@echo "setting up .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

.venv/.run: requirements.lock $(PROJECTS) | $(UV)
	@echo "installing the Python packages"
	@$(UV) pip install -q --require-hashes -r requirements.lock
	@$(UV) pip install -q --no-deps $(EDITABLE)
	@touch $@

.venv/.dev: requirements-dev.lock $(PROJECTS) | $(UV)
	@echo "installing the Python packages, with those for development"
	@$(UV) pip install -q --require-hashes -r requirements-dev.lock
	@$(UV) pip install -q --no-deps $(EDITABLE)
	@touch $@ .venv/.run

# Flower asks for other versions of what is in .venv.
.flower/.ready: tests/flower/requirements.lock | $(UV)
.flower-simulation/.ready: tests/flower/requirements-simulation.lock | $(UV)
.flower/.ready .flower-simulation/.ready:
	@echo "setting up $(@D)"
	@$(UV) venv -q --clear --python $(BIN)/python $(@D)
	@$(UV) pip sync -q --require-hashes --python $(@D)/bin/python $< # `install` leaves out what pyproject.toml overrides
	@touch $@

# Node 20 or newer with npm from PATH, else from its wheel.
node_modules/.ready: package-lock.json .npmrc requirements-node.lock | $(UV)
	@if ! node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' 2>/dev/null || ! npm --version >/dev/null 2>&1; then \
	  echo "installing Node"; $(UV) pip install -q --require-hashes -r requirements-node.lock; fi
	@echo "installing the chain tools"
	@if [ -L node_modules ]; then echo "node_modules is a link, and npm would empty what it points to: remove the link first"; exit 1; fi
	@npm ci --silent --no-progress || npm ci
	@touch $@

tools/helia/node_modules/.ready: tools/helia/package-lock.json node_modules/.ready
	@cd tools/helia && (npm ci --silent --no-progress || npm ci)
	@touch $@
