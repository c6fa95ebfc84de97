# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export HF_HUB_OFFLINE = 1

.PHONY: demo test lint bench soak report clean

demo: $(INSTALLED)
	$(BIN)/python -m pipelines.demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not soak"

soak: $(INSTALLED)
	$(BIN)/python -m pytest -m soak --timeout 3600

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks

# The demo's report as a picture; needs Chromium.
report: demo
	$(BIN)/python -m pipelines.screenshot build/demo/output build/demo/report.png

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable ".[openvino,minilm,s3,gcs,gcp,test,dev]"
	touch $@

clean:
	rm -rf build $(VENV)
