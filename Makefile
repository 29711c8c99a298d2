# Two commands do all set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run test lint benchmark catalogue clean

run: $(INSTALLED)  ## Sample a pretrained model, then train the default recipe on real handwritten digits (about 3 minutes).
	$(BIN)/ganzoo sample stylegan2-mnist --num 24 --seed 0 --show
	$(BIN)/ganzoo train dcgan-digits --output runs/dcgan-digits --resume
	$(BIN)/ganzoo sample runs/dcgan-digits/pipeline --num 24 --seed 0 --output samples/dcgan-digits.png --show

test: $(INSTALLED)  ## The whole test suite.
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(INSTALLED)  ## What a change must pass before it is looked at.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmark: $(INSTALLED)  ## Speed beside a plain loop, loading times; writes benchmarks/results/.
	$(BIN)/python benchmarks/train_dcgan.py
	$(BIN)/python benchmarks/loading.py

catalogue: $(INSTALLED)  ## Rebuild hub/catalogue.json, with the SHA-256 of every file, from the checkpoint folders.
	$(BIN)/python -c "from pathlib import Path; from ganzoo.hub.index import write_catalogue; write_catalogue(Path('hub'))"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) runs samples
