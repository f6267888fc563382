# On a machine with nothing but Python: `make eval` runs the main job, `make test` the tests.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DIGITS := $(foreach r,erm mixup coded pgd-at,--ckpt $(r)=checkpoints/digits-$(r).safetensors)

.PHONY: install eval test check format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[peers,ray,dev]" --constraint constraints.txt
	touch $@

# Table 3 on the embedded checkpoints: four trainings, standard inference and RCI at N = K and N = 1.5 K.
eval: $(INSTALLED)
	$(BIN)/csrobust eval $(DIGITS) --data digits --rci N=128 --rci N=1.5K --out reports/digits --overwrite

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(INSTALLED) check
	$(BIN)/python -m pytest -n 2 --dist worksteal

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv
