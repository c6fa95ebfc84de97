# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Checks the manifests; its dependencies contradict ours, so it lives by itself.
CHECKOV := .venv-checkov
export HF_HUB_OFFLINE = 1
# Else each process that a test or the demo starts compiles all of embedkit anew.
unexport PYTHONDONTWRITEBYTECODE
include k8s/versions.env

.PHONY: install demo lesson test lint bench gpu gpu-bundle soak report docs images clean

demo: $(INSTALLED)
	$(BIN)/python -m pipelines.demo

install: $(INSTALLED) $(CHECKOV)/.installed

lesson: $(INSTALLED)
	$(BIN)/python -m pipelines.lesson

test: $(INSTALLED) $(CHECKOV)/.installed
	$(BIN)/python -m pytest -m "not soak" --numprocesses 4

soak: $(INSTALLED)
	$(BIN)/python -m pytest -m soak --timeout 3600

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks

# Checks and measures encoders on the GPU of this machine; without one, `GPU_OPTIONS=--tiny` tries it.
gpu: $(INSTALLED)
	$(BIN)/python tests/gpu/run.py $(GPU_OPTIONS)

# What `make gpu` needs on a machine with a GPU and no registry, in one folder. GPU_MODEL, a model's
# directory, and GPU_DATA, the folder of public data, go along if given, to tell what precision costs.
GPU_PYTHON ?= 3.12
gpu-bundle: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m tests.gpu.bundle --output build/gpu-bundle \
		--python $(GPU_PYTHON) $(if $(GPU_MODEL),--model $(GPU_MODEL)) \
		$(if $(GPU_DATA),--data $(GPU_DATA))

# The demo's report as a picture; needs Chromium.
report: demo
	$(BIN)/python -m pipelines.screenshot build/demo/python-docs build/demo/report.png

# The manual as a site in build/site, and its pages that are made from the code.
docs: $(INSTALLED)
	$(BIN)/python -m pipelines.settings_page docs/settings.md
	$(BIN)/python -m pipelines.figures_page docs/figures.md
	$(BIN)/python -m zensical build --strict

# The images of a Ray node, a Beam worker and a Flex Template. TORCH_INDEX, the index of torch's CPU wheels, makes
# the cpu variant small.
REGISTRY ?= registry.example.com/embedkit
VARIANT ?= gpu
BUILD_ARGS := $(foreach name,PYTHON_VERSION RAY_VERSION BEAM_VERSION EMBEDKIT_VERSION,\
	--build-arg $(name)=$($(name)))
images: $(addprefix image-,ray beam template)
image-%:
	docker build --file k8s/images/Dockerfile --target $* $(BUILD_ARGS) \
		--build-arg TORCH_INDEX=$(TORCH_INDEX) --tag $(REGISTRY)/$*:$(EMBEDKIT_VERSION)-$(VARIANT) .

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable ".[openvino,minilm,s3,gcs,gcp,yaml,onnx,train,words,evaluate,report,faiss,usearch,languages,docs,test,dev]"
	touch $@

$(CHECKOV)/.installed: tests/k8s/checkov.txt
	test -x $(CHECKOV)/bin/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(CHECKOV)
	$(CHECKOV)/bin/python -m pip install --quiet --requirement tests/k8s/checkov.txt
	touch $@

clean:
	rm -rf build .cache $(VENV) $(CHECKOV)
