# The commands of the house. Each does its own set-up: a fresh machine needs python3 (3.11 or newer) and,
# for the demo's page and the tests with official clients, Node.js with npm.

PYTHON ?= python3
BIN := .venv/bin
# Six at a time on two cores: many tests wait for a process to start or a client to come back (372 s; three: 503 s).
# In the order of tests/conftest.py: by the number of a module's tests, the few that take longest would come last.
PYTEST_ARGS ?= -n 6 --dist loadscope --no-loadscope-reorder
TESTS = PYTEST_ARGS="$(PYTEST_ARGS)" .ci/pytest $(BIN)/pytest
# What `make simulate` is about: events, queues, servers or restores.
OF ?= events
# Which mutants `make mutate` draws.
SEED ?= 1
# The tests start hundreds of servers, each of which would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON_SOURCES := src tests bench examples hatch_build.py
INSTALLED := .venv/.installed
PEERS := bench/speed/js/node_modules/.installed
CLUSTER_PEERS := bench/cluster/js/node_modules/.installed
CLIENTS := tests/interop/js/node_modules/.installed
WEB_PACKAGES := web/node_modules/.installed
PAGE := src/waypost/demo/static/index.html
# The official JavaScript client that `serve_client` serves, of the version that web/package-lock.json pins.
CLIENT_FILES := src/waypost/transports/static/socket.io.js
# What web/package.json asks for.
NODE_WANTED := 18.19
HAVE_NODE := $(shell command -v npm >/dev/null && node -e 'const at = (v) => v.split(".").map(Number); \
    const [a, b] = at(process.versions.node), [c, d] = at("$(NODE_WANTED)"); \
    if (a > c || (a === c && b >= d)) console.log("yes")' 2>/dev/null)
WEB_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*')

.PHONY: demo dist openapi test test-long test-versions test-postgres check bench bench-full bench-queue bench-cluster fuzz soak simulate mutate docs web clients clean

# STORE=postgresql: on two servers, on a PostgreSQL of its own in a temporary folder; STORE=postgresql://… on that one.
ifdef STORE
demo: $(INSTALLED)
	$(BIN)/python -m tests.support.with_postgres '$(STORE)' $(BIN)/waypost demo --store '{store}'
else
demo: $(INSTALLED) web
ifeq ($(HAVE_NODE),yes)
	$(BIN)/waypost demo
else
	@echo "No Node.js $(NODE_WANTED) or newer with npm to build the demo's page with: it plays in the terminal."
	$(BIN)/waypost demo --headless
endif
endif

test: check clients web
	$(TESTS) -m "not long"

# What takes long by its nature: crowds, kills in rounds, chance without end, stories in a browser.
# Then what clients must not notice: that a service is several processes. It runs whatever the first half says.
test-long: $(INSTALLED) clients web
	first=0; $(TESTS) -m long || first=$$?; \
	WAYPOST_TEST_WORKERS=2 $(TESTS) -m "not long" tests/interop tests/recovery tests/conformance && exit $$first

# With the lowest and the newest versions of what Waypost depends on, and with other Pythons, in .venvs/.
test-versions: $(INSTALLED) clients
	PYTHON="$(PYTHON)" PYTEST_ARGS="$(PYTEST_ARGS)" .ci/versions

# The store on PostgreSQL VERSION=14 to 18 instead of the machine's; its programs come from npm, in .postgres/.
test-postgres: $(INSTALLED)
	PYTEST_ARGS="$(PYTEST_ARGS)" .ci/postgres $(or $(VERSION),18) .ci/pytest $(BIN)/pytest -k postgres \
	    tests/storage tests/outside tests/commands tests/support/test_postgres.py

check: $(INSTALLED)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

# The sdist, and the wheel that is built from it, in dist/.
dist: $(INSTALLED) web
	rm -rf dist
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build

docs: $(INSTALLED)
	$(BIN)/pytest -q tests/test_docs.py tests/docs

# The description of the HTTP API, from its types: after a change of these.
openapi: $(INSTALLED)
	$(BIN)/python -c 'import sys; from waypost.operations.http_api.application import describe_api; \
	    sys.stdout.buffer.write(describe_api())' > docs/openapi.json

# Beside Node's socket.io, if there is Node.js, and python-socketio.
bench: $(INSTALLED) $(PEERS)
	$(BIN)/python -m bench.speed

bench-full: $(INSTALLED) $(PEERS)
	$(BIN)/python -m bench.speed --full
	$(BIN)/python -m bench.speed document bench/results/speed.json
	$(BIN)/python -m bench.recovery
	$(BIN)/python -m bench.client --rounds 3 --seconds 2

# Beside RabbitMQ, Redis and NATS, if their servers are installed: apt-get install rabbitmq-server redis-server nats-server
bench-queue: $(INSTALLED)
	$(BIN)/python -m bench.queue

# Beside python-socketio and Node's socket.io with their adapters, if PostgreSQL, Redis and Node.js are installed.
bench-cluster: $(INSTALLED) $(CLUSTER_PEERS)
	$(BIN)/python -m bench.cluster

# An hour of honest clients beside attackers; MINUTES=15 for less.
soak: $(INSTALLED)
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60)

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz

simulate: $(INSTALLED)
	$(BIN)/python -m tests.sim --of $(OF) --forever

mutate: $(INSTALLED)
	$(BIN)/python -m tests.mutate --seed $(SEED)

ifeq ($(HAVE_NODE),yes)
web: $(PAGE) $(CLIENT_FILES)
clients: $(CLIENTS)
else
web clients:
	@echo "No Node.js $(NODE_WANTED) or newer with npm: $@ left out; tests that need it are skipped."
endif

clean:
	rm -rf .venv .venvs .postgres web/node_modules tests/interop/js/node_modules bench/speed/js/node_modules bench/cluster/js/node_modules $(dir $(PAGE) $(CLIENT_FILES)) tests/artefacts
	cd tests/clients/programs && rm -rf */target */node_modules */.built */.lock go/scenario rust/Cargo.lock
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	# The pip of older Pythons knows no dependency groups.
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e . --group dev
	touch $@

ifeq ($(HAVE_NODE),yes)
$(PEERS) $(CLUSTER_PEERS): %/node_modules/.installed: %/package-lock.json
	npm --prefix $* ci --no-audit --no-fund
	touch $@
else
$(PEERS) $(CLUSTER_PEERS):
	@echo "No Node.js $(NODE_WANTED) or newer with npm: Node's servers are left out."
endif

$(CLIENTS): tests/interop/js/package-lock.json
	npm --prefix tests/interop/js ci --no-audit --no-fund
	touch $@

$(WEB_PACKAGES): web/package-lock.json
	npm --prefix web ci --no-audit --no-fund
	touch $@

$(CLIENT_FILES): $(WEB_PACKAGES)
	mkdir -p $(@D)
	cp web/node_modules/socket.io-client/dist/socket.io*.js* $(@D)
	touch $@

$(PAGE): $(WEB_PACKAGES) $(WEB_SOURCES)
	npm --prefix web run build
	touch $@
