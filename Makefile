# make demo   segments the sample head with two of the shipped models
# make test   runs every test
# make docs   builds the guides as a site
# make index  lists the shipped models anew, after one of them has changed
# Both set themselves up: python3 (3.10 or later) with venv is all they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HEAD := Resources/Samples/MNI152_T1_1mm.nii.gz
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c engine/constraints.txt

.PHONY: demo test coverage bench gpu-check docs index lint clean

demo: $(VENV)/engine.stamp
	$(BIN)/python engine/demo.py

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest Testing

coverage: $(VENV)/test.stamp
	$(BIN)/python -m coverage run -m pytest Testing $(ARGS)
	$(BIN)/python Testing/rooms.py

bench: $(VENV)/bench.stamp
	$(BIN)/python engine/benchmarks/run.py $(ARGS)

gpu-check: $(VENV)/test.stamp $(VENV)/bench.stamp
	$(BIN)/python engine/benchmarks/gpu_check.py $(ARGS)

docs: $(VENV)/test.stamp
	$(BIN)/python -m mkdocs build --strict -f Resources/Documentation/mkdocs.yml

index: $(VENV)/engine.stamp
	$(BIN)/e2enet models index Resources/Models --sample hippocampus-mr=$(HEAD) --sample brain-any=$(HEAD)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo bench.json

$(VENV)/engine.stamp: engine/pyproject.toml engine/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e './engine[torch]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/engine.stamp Testing/slicer/requirements.txt
	$(PIP) -e './engine[test,docs]' -r Testing/slicer/requirements.txt
	$(PIP) --no-deps -r Testing/slicer/requirements-nodeps.txt
	@touch $@

# Without its dependencies: they bring torchvision, which does not go with a CPU build of torch,
# and the plain U-Net that we measure against needs none of them.
$(VENV)/bench.stamp: $(VENV)/engine.stamp engine/benchmarks/requirements.txt
	$(PIP) --no-deps -r engine/benchmarks/requirements.txt
	@touch $@

$(VENV)/lint.stamp: $(VENV)/test.stamp
	$(PIP) -e './engine[lint]'
	@touch $@
