# Everything here sets itself up: the first target that needs it makes .venv with a Python that is new enough.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help run test lint type check bench clean

help:
	@echo "make run     set up, then serve DNS on 127.0.0.1:5335 and the proxy on 127.0.0.1:3128"
	@echo "make test    set up, then run all tests"
	@echo "make lint    ruff: rules and formatting"
	@echo "make type    mypy, strict"
	@echo "make check   lint, type and test"
	@echo "make bench   benchmarks, beside other servers where they are installed"
	@echo "make clean   remove what the other targets made"

run: $(READY)
	@exec $(BIN)/gateway run --config deploy/examples/quickstart.yaml

test: $(READY)
	$(BIN)/pytest -q -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(READY)
	$(BIN)/mypy

check: lint type test

bench: $(READY)
	@for bench in tests/bench/*.py; do echo "== $$bench"; $(BIN)/python "$$bench" || exit 1; done

clean:
	rm -rf $(VENV) state dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@python="$$(sh deploy/find-python)" || exit 1; \
	echo "setting up $(VENV) with $$python (once; a minute or so)"; \
	"$$python" -m venv $(VENV) && \
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1" && \
	$(BIN)/python -m pip install -q -c constraints.txt --group dev -e . && \
	touch $@
