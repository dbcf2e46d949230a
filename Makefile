# Everything a developer runs, and what CI runs: the same commands. Nothing here needs root or a container.

PYTHON_VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup run test check lock openapi cases places clients vercel cold nextjs picture faults bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## create .venv and install into it what is missing (the others do it by themselves)
	@sh dev/setup.sh

run: setup ## start the whole local stack on http://127.0.0.1:3000 (PORT=8000: another port; DATA=dir: other data; REDIS=tcp: Redis over TCP)
	@exec $(PYTHON_VENV) -m dev $(if $(DATA),--data $(DATA))

test: setup ## run the tests (QUICK=1: those worth running after every edit)
	@# A place of its own for what it writes: of pytest's own places the oldest are deleted while others still use them.
	@place=$$(mktemp -d) && $(PYTHON_VENV) -m pytest -n logical --maxprocesses 8 --dist loadfile --basetemp="$$place/tests" $(if $(QUICK),-m "not slow") && rm -rf "$$place"

check: setup ## linters, types, and whether generated files are current
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(PYTHON_VENV) -m dev.openapi --check
	$(PYTHON_VENV) -m dev.cases --check

lock: setup ## pin requirements*.in into requirements*.txt
	$(PYTHON_VENV) -m pip install --quiet --disable-pip-version-check uv
	.venv/bin/uv pip compile -q requirements.in -o requirements.txt --no-header --python-version 3.12
	.venv/bin/uv pip compile -q requirements-dev.in -o requirements-dev.txt --no-header --python-version 3.12 --universal -c requirements.txt
	@for each in openai_2 openai_3; do (cd tests/clients/libraries/$$each && \
	  $(CURDIR)/.venv/bin/uv pip compile -q requirements.in -o requirements.txt --no-header --python-version 3.12); done

openapi: setup ## write the OpenAPI description anew
	$(PYTHON_VENV) -m dev.openapi

places: setup ## note the places of new counters of the ledger (tests/ledger/places.golden)
	$(PYTHON_VENV) -m tests.ledger.golden

cases: setup ## list anew, in docs/cases.md, which tests name which case
	$(PYTHON_VENV) -m dev.cases

clients: setup ## run the client libraries that are too heavy for `make test` against the whole local stack
	@sh tests/clients/setup
	@for each in openai_2 openai_3; do \
	  build/clients/$$each/bin/python -m pytest -c tests/clients/libraries/pytest.ini --rootdir . -p no:cacheprovider \
	    --confcutdir tests/clients/libraries tests/clients/libraries/test_openai.py tests/clients/libraries/$$each || exit 1; \
	done

vercel: setup ## build with Vercel's CLI, check what came out, and test the functions under Vercel's runtime
	$(PYTHON_VENV) -m dev.vercel build --bytecode
	$(PYTHON_VENV) -m dev.vercel check
	$(PYTHON_VENV) -m dev.vercel test

nextjs: setup ## build examples/nextjs-chat and use it in a browser, against the local stack (needs node, npm, Chromium)
	BREAKWATER_NEXTJS=1 $(PYTHON_VENV) -m pytest tests/examples/test_nextjs.py

picture: setup ## take docs/page.png anew, after a change of the page (needs Chromium)
	mkdir -p build/pictures
	BREAKWATER_BROWSER=1 BREAKWATER_SCREENSHOTS=build/pictures $(PYTHON_VENV) -m pytest tests/browser/test_page.py -k picture
	cp build/pictures/picture.png docs/page.png

faults: setup ## every fault at every step, an adversary, and load while servers are killed (make test has the short form)
	$(PYTHON_VENV) -m tests.faults

bench: setup ## measure on this machine, side by side; writes bench/ (QUICK=1: a short run)
	@sh bench/setup
	$(PYTHON_VENV) -m bench $(if $(QUICK),--quick)

cold: setup ## measure cold starts of the built supervisor (after make vercel)
	$(PYTHON_VENV) -m dev.vercel cold --runs 15

clean: ## remove caches and the local stack's data (.venv stays)
	rm -rf .dev build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find api bench dev lib tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
