# On a machine with nothing but Python: `make eval` runs the main job, `make test` the tests.
# reports/README.md has the commands behind every committed report and measurement.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SHARED ?= ../shared

.PHONY: install eval report evidence reproduce study study-table paper rewrite board test check coverage mutate long soak oldest browser screenshots docs gpu-check wheel-smoke format clean

install: $(INSTALLED)

# torchattacks comes without its dependencies: it pins a version of requests with known vulnerabilities, which its
# attacks do not import.

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable . --constraint constraints.txt
	$(BIN)/pip install --quiet --no-deps torchattacks pyautoattack --constraint constraints.txt
	touch $@

# What the tests, the linters and the type checker need besides. pip would report the conflict of torchattacks.
DEVELOPED := .venv/.developed
$(DEVELOPED): $(INSTALLED)
	$(BIN)/pip install --quiet --no-warn-conflicts --group dev --constraint constraints.txt
	touch $@

# Table 3 on embedded checkpoints: the paper's trainings, standard inference and RCI at N = 1.5 K.
PAPERS := $(foreach r,erm mixup coded,--ckpt $(r)=checkpoints/digits-$(r).safetensors)
eval: $(INSTALLED)
	$(BIN)/csrobust eval $(PAPERS) --data digits --rci N=1.5K --workers 2 --threads 1 --out runs/digits --overwrite

# make report NAME=digits: a committed run again, by its options in reports/, several commands one after the other.
OUT ?= runs/reports/$(NAME)
report: $(INSTALLED)
	@test -n "$(NAME)" || { echo "give NAME=RUN, a row of reports/evidence.csv" >&2; exit 2; }
	$(BIN)/python benchmarks/evidence.py report $(NAME) $(OUT)

# Every committed run again, the cheapest first, in runs/evidence; lists the minutes first, goes on where it stopped.
evidence: $(INSTALLED) data/cifar10_test.npz
	$(BIN)/python benchmarks/evidence.py
	$(BIN)/python benchmarks/evidence.py run

# README's first table from nothing, beside the committed one; rows whose network is not here are left out by name.
reproduce: $(INSTALLED)
	$(BIN)/python benchmarks/reproduce.py
	$(BIN)/python benchmarks/reproduce.py run

# The runs behind docs/finding.md, in runs/rci; the same command goes on where it stopped.
study: $(INSTALLED) data/cifar10_test.npz
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python docs/finding_study.py

# The tables and figures of docs/finding.md, from the committed tables of the study.
study-table: $(INSTALLED)
	$(BIN)/python docs/finding_study.py table
	$(BIN)/python docs/finding_figures.py

# docs/finding.md as build/finding.pdf, where pandoc and LaTeX are installed.
PAPER_TOOLS := pandoc xelatex rsvg-convert
paper:
	@for tool in $(PAPER_TOOLS); do command -v $$tool >/dev/null || { echo "make paper needs $$tool (Debian: pandoc texlive-xetex texlive-fonts-recommended lmodern librsvg2-bin fonts-dejavu)" >&2; exit 2; }; done
	mkdir -p build
	cd build && pandoc ../docs/finding.md --from gfm --resource-path ../docs --shift-heading-level-by=-1 --pdf-engine=xelatex \
	  -V geometry:margin=2cm -V fontsize=10pt -V mainfont="DejaVu Serif" -V colorlinks \
	  -V header-includes='\usepackage{etoolbox}\AtBeginEnvironment{longtable}{\scriptsize\setlength{\tabcolsep}{3pt}}' -o finding.pdf
	@echo build/finding.pdf

# Writes the reports of whole committed runs, and the tables of all pages, again from stored outcomes.
rewrite: $(INSTALLED)
	for run in reports/*/run.json; do $(BIN)/csrobust report "$$(dirname "$$run")" --quiet || exit 1; done
	$(BIN)/csrobust compare reports/digits --baseline erm --format md,csv --out reports/digits-trainings
	$(BIN)/csrobust compare reports/cifar10-recipes --baseline erm --format md,csv --out reports/cifar10-trainings
	$(BIN)/python docs/readme_findings.py compared

# Published defences around the digits networks and ResNets, RCI, and LWTA with its authors' weights: runs of `make evidence`.
BOARD := $(shell sed -n 's,^\[\["\(board-.*\)"\]\],runs/evidence/\1,p' reports/board/runs.toml | uniq) \
	runs/evidence/cifar10-adversarial reports/digits reports/cifar10-resnet20
board: $(INSTALLED)
	$(BIN)/csrobust board $(BOARD) --out reports/board

# Test images of CIFAR-10 as arrays, in the order of the committed runs: from torchvision's files, found or downloaded
# as by csrobust ($CSROBUST_DATA), or from $(SHARED).
data/cifar10_test.npz: $(INSTALLED)
	@if test -e $(SHARED)/data/unpack.py; then $(BIN)/python $(SHARED)/data/unpack.py data; \
	else $(BIN)/python benchmarks/reproduce.py images; fi

CHECKS := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
check: $(DEVELOPED)
	$(CHECKS)

# The checks run beside the tests: mypy keeps one core busy for half a minute.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
test: $(DEVELOPED)
	@{ $(CHECKS); } > .venv/check.log 2>&1 & checks=$$!; \
	$(TESTS) -m "not long"; tests=$$?; \
	wait $$checks; checks=$$?; cat .venv/check.log; exit $$((tests + checks))

# The tests that are marked long, two thirds of the time of all: every command of the docs, the page in a browser, simulated
# intervals, trainings, kills. The continuous integration runs them after `make test`.
# The imitation of an accelerator stays registered with torch, so that its tests have processes of their own.
long: $(DEVELOPED)
	$(TESTS) -m long --ignore tests/accelerator
	$(TESTS) -m long tests/accelerator

# The long forms: 50 kill -9s, stops, full disks, 30,000 mutated checkpoints, every engine, many cuts of a plan.
soak: $(DEVELOPED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --soak --durations=20 tests/faults \
		tests/evaluation/engine/test_summaries.py tests/models/test_hostile_checkpoints.py $$(grep -rl '^@given' tests)

# What the tests execute, by package; printed, not judged.
coverage: $(DEVELOPED)
	$(TESTS) -m "not long" --cov attacks --cov robustbench_coded --cov-report json:build/coverage.json -q
	$(BIN)/python -m benchmarks.oracle.coverage build/coverage.json

# 120 one-character faults of what decides outcomes and verdicts: which of them do the tests notice?
mutate: $(DEVELOPED)
	$(BIN)/python -m benchmarks.oracle.mutants build/mutants.csv

# The tests with the oldest versions that pyproject.toml allows. Left out are those that compare bytes or counts which
# depend on the random numbers or the schema of a version, and the imitation of an accelerator, which needs a newer torch.
OTHER_BYTES := noise-wide or jitter or better_outcomes or the_schema_is_ours
.venv-oldest/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --constraint constraints-oldest.txt --editable . \
		pytest pytest-xdist hypothesis hatchling scikit-learn
	touch $@

oldest: .venv-oldest/.installed
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 --dist worksteal -k "not ($(OTHER_BYTES))" \
		--ignore tests/accelerator

# The headless browser that opens report.html in the tests; without one they are skipped and say so.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
browser:
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then \
		echo "browser: chromium and chromedriver are here"; \
	elif ! command -v apt-get >/dev/null; then \
		echo "browser: there is no apt-get here; install chromium and chromedriver by hand, both on the PATH" >&2; exit 1; \
	elif [ -n "$(SUDO)" ] && ! command -v sudo >/dev/null; then \
		echo "browser: neither root nor sudo here; have chromium and chromium-driver installed for you" >&2; exit 1; \
	else \
		$(SUDO) apt-get -qq update && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
			chromium chromium-driver >/dev/null; \
	fi

# The wheel in an empty environment, away from the checkout: the command of README, and one call from Python.
SMOKE := build/wheel-smoke
wheel-smoke:
	rm -rf $(SMOKE) && mkdir -p $(SMOKE)
	$(PYTHON) -m venv $(SMOKE)/venv
	$(SMOKE)/venv/bin/pip install --quiet --upgrade pip
	$(SMOKE)/venv/bin/pip wheel --quiet --no-deps --wheel-dir $(SMOKE) .
	$(SMOKE)/venv/bin/pip install --quiet $(SMOKE)/*.whl
	cd $(SMOKE) && venv/bin/csrobust eval --ckpt digits-erm --rci N=190 --limit 256 --until settled --out first --quiet
	cd $(SMOKE) && venv/bin/python -c "from robustbench_coded import load_run; assert load_run('first').judgements"

# Pictures of the committed report for docs/.
screenshots: $(INSTALLED) browser
	$(BIN)/python docs/screenshots.py reports/digits

# The documentation as a site in build/site, with every link checked, in an environment of its own.
DOCS_EXTRA := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["docs"])
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.venv-docs/.installed: pyproject.toml docs/site/constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --constraint docs/site/constraints.txt $$($(PYTHON) -c '$(DOCS_EXTRA)')
	touch $@

# An accelerator beside the processor: verdicts, figures, images a second, memory; build/gpu-check/report.md. On the
# imitation of one where there is none.
gpu-check: $(INSTALLED)
	PYTHONPATH=.:$$PYTHONPATH $(BIN)/python benchmarks/speed/gpu_check.py

format: $(DEVELOPED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv
