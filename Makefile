# make demo      the environment, then supervision transfer end to end on a generated data set
# make test      style and types, then the tests
# make test-all  the same with the tests that take minutes
# make check     style and types
# make bench     every benchmark, the curves of what grows (a picture in output/), and a table that names the machine
# make layers    docs/layers.md anew, from the registered layers
# make docs-pictures the demo, then the pictures under docs/pictures, of what it made
# make onnx-matrix   every exported layer in every ONNX runtime: minutes, and about 2 GB of small environments in output/
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_SEEDS ?= 1
# Where torch is installed from if not from the package index: PyTorch's index without CUDA, see README.
TORCH_INDEX ?=
# Threads that wait by spinning slow each other down where others use the cores too.
export GOMP_SPINCOUNT ?= 20000

# Tests run in as many processes as there are cores, eight at most, each one thread wide; a file in one process.
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

.PHONY: demo test test-all check bench layers docs-pictures onnx-matrix clean

$(BIN)/.ready: setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is %d.%d; try make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet torch torchvision --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(BIN)/.ready
	$(BIN)/python tools/demo.py --seeds $(DEMO_SEEDS)

test test-all: export OMP_NUM_THREADS ?= 1

test: check
	$(PYTEST)

test-all: check
	$(PYTEST) -m ""

check: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BIN)/.ready
	mkdir -p output
	$(BIN)/python tools/bench.py --plot output/bench_scale.png

layers: $(BIN)/.ready
	$(BIN)/python -c 'from caffe_compat.onnx import support_page; print(support_page(), end="")' > docs/layers.md.new
	mv docs/layers.md.new docs/layers.md

docs-pictures: demo
	$(BIN)/python docs/make_pictures.py

onnx-matrix: $(BIN)/.ready
	$(BIN)/python tests/onnx_matrix/run.py

clean:
	rm -rf $(VENV) build *.egg-info output data/demo data/demo_*
