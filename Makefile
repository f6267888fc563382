# On a machine with nothing but Python: `make eval` runs the main job, `make test` the tests.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PAPERS := $(foreach r,erm mixup coded,--ckpt $(r)=checkpoints/digits-$(r).safetensors)
DIGITS := $(PAPERS) --ckpt pgd-at=checkpoints/digits-pgd-at.safetensors

.PHONY: install eval test long soak check browser format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[peers,ray,train,fid,dev]" --constraint constraints.txt
	touch $@

# Table 3 on embedded checkpoints: the paper's trainings, standard inference and RCI at N = 1.5 K. The report goes to
# runs/digits, which git ignores; `make report-digits` makes the committed one, which has an adversarially trained network
# and N = K, too.
ON_DIGITS := --data digits --workers 2 --threads 1
eval: $(INSTALLED)
	$(BIN)/csrobust eval $(PAPERS) $(ON_DIGITS) --rci N=1.5K --out runs/digits --overwrite

CHECKS := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
check: $(INSTALLED)
	$(CHECKS)

# The checks run beside the tests: mypy keeps one core busy for half a minute.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
test: $(INSTALLED)
	@{ $(CHECKS); } > .venv/check.log 2>&1 & checks=$$!; \
	$(TESTS) -m "not long"; tests=$$?; \
	wait $$checks; checks=$$?; cat .venv/check.log; exit $$((tests + checks))

# The tests that are marked long, two thirds of the time of all: every command of the docs, the page in a browser, simulated
# intervals, trainings, kills. The continuous integration runs them after `make test`.
# The imitation of an accelerator stays registered with torch, so that its tests have processes of their own.
long: $(INSTALLED)
	$(TESTS) -m long --ignore tests/accelerator
	$(TESTS) -m long tests/accelerator

# The long forms: 50 kill -9s, stops, full disks, 30,000 mutated checkpoints, every engine, many cuts of a plan.
soak: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --soak --durations=20 tests/faults \
		tests/engine/test_cut_plans.py tests/engine/test_summaries.py tests/models/test_hostile_checkpoints.py

# The tests with the oldest versions that pyproject.toml allows. Left out are those that compare bytes or counts which
# depend on the random numbers or the schema of a version, and the imitation of an accelerator, which needs a newer torch.
OTHER_BYTES := noise-wide or HopSkipJump or jitter or better_outcomes or the_schema_is_ours
.venv-oldest/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --constraint constraints-oldest.txt --editable . \
		pytest pytest-xdist hypothesis hatchling
	touch $@

.PHONY: oldest
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

# Pictures of the committed report for docs/.
.PHONY: screenshots
screenshots: $(INSTALLED) browser
	$(BIN)/python docs/screenshots.py reports/digits

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

# Networks of known truth, half of them put together wrongly: who is refused, who is taken for what.
.PHONY: benchmark-recognition
benchmark-recognition: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/recognition.py

# Preset aa beside AutoAttack's standard suite on networks trained to be robust; SHARED has the MNIST ones.
.PHONY: benchmark-aa
benchmark-aa: data/cifar10_test.npz
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/robust_bench.py --shared $(SHARED)

# The committed reports on CIFAR-10; they need checkpoints and data that are not part of this repository.
SHARED ?= ../shared
ON_CIFAR := --data npz:data/cifar10_test.npz --limit 640 --first --threads 1 --workers 2
CIFAR := $(ON_CIFAR) --attack-precision auto --out reports/cifar10-resnet20

data/cifar10_test.npz: $(INSTALLED)
	@test -e $(SHARED)/data/unpack.py || { echo "$(SHARED)/data/unpack.py is not there: give its folder, SHARED=DIR" >&2; exit 1; }
	$(BIN)/python $(SHARED)/data/unpack.py data

.PHONY: reports report-digits report-cifar10 report-zoo report-eight-networks report-sweep report-trainings
reports: report-digits report-sweep report-trainings report-zoo report-eight-networks report-ablations \
	report-ablations-cifar10 report-shift report-gan report-gan-cifar10 report-tabular report-figures report-cifar10 report-recipes report-adversarial

report-digits: $(INSTALLED)
	$(BIN)/csrobust eval $(DIGITS) $(ON_DIGITS) --rci N=128 --rci N=1.5K --out reports/digits --overwrite
	$(BIN)/csrobust compact reports/digits

# Accuracy against batch size, of the embedded checkpoint that was trained with coded-smoothing.
report-sweep: $(INSTALLED)
	$(BIN)/csrobust sweep --ckpt coded=checkpoints/digits-coded.safetensors --data digits --rci N=1.5K \
		--workers 2 --threads 1 --out reports/digits-sweep --overwrite

# The trainings of the embedded checkpoints side by side, each beside ERM.
report-trainings: $(INSTALLED)
	$(BIN)/csrobust compare reports/digits --baseline erm --format md,html,csv,latex --out reports/digits-trainings

# Verdicts on defences whose robustness is known, beside what other toolkits say of them.
report-zoo: $(INSTALLED)
	$(BIN)/python benchmarks/zoo_run.py

# A random ensemble behind RCI that transfer does not break: our attacks beside third-party ones, at one query budget.
report-eight-networks: $(INSTALLED)
	$(BIN)/python benchmarks/eight_networks.py

# Images, networks and defences whose truth others established. Networks are evaluated, with runs in runs/outside.
.PHONY: report-outside
report-outside: data/cifar10_test.npz
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benchmarks/outside.py --shared $(SHARED) runs/outside

# Which of RobustBench's definitions load, in an environment of its own: its package wants older libraries.
# On two cores about half an hour, and 12 GB of memory for the largest networks; with ROWS=FILE a stopped one goes on.
.PHONY: benchmark-robustbench
benchmark-robustbench: .venv-robustbench/.installed
	OMP_NUM_THREADS=2 .venv-robustbench/bin/python benchmarks/robustbench_zoo.py $(if $(ROWS),--rows $(ROWS))

.venv-robustbench/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-robustbench
	.venv-robustbench/bin/pip install --quiet --upgrade pip
	.venv-robustbench/bin/pip install --quiet --editable ".[timm]" robustbench
	touch $@

# Our attacks beside those of other libraries at equal budgets, in an environment of its own: their packages want others.
# visdom, which adv-lib imports, is built with what setuptools had until 80. Its MNIST networks are in SHARED.
.PHONY: league
league: .venv-league/.installed
	OMP_NUM_THREADS=1 .venv-league/bin/python benchmarks/league.py --shared $(SHARED)

.venv-league/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-league
	.venv-league/bin/pip install --quiet --upgrade pip
	.venv-league/bin/pip install --quiet --editable ".[peers]" --constraint constraints.txt
	.venv-league/bin/pip install --quiet "setuptools<81" wheel
	.venv-league/bin/pip install --quiet --no-build-isolation visdom
	.venv-league/bin/pip install --quiet foolbox adversarial-robustness-toolbox adv-lib
	touch $@

# On a machine with a GPU: the tests that use all there are; Table 3 in float32, TF32 and bfloat16 beside torchattacks and
# pyautoattack, with memory, in benchmarks/table3_gpu.md; the speed of attacks in benchmarks/speed-cuda.md. Elsewhere it
# says what is missing. All of it on the imitation of a GPU, whose figures mean nothing:
# PYTHONPATH=tests/accelerator/everywhere make gpu SPEED="--arch digits-cnn --steps 10 --rounds 1"
.PHONY: gpu
gpu: $(INSTALLED)
	@$(BIN)/python benchmarks/gpu_missing.py
	$(BIN)/python -m pytest tests/test_gpu.py
	$(BIN)/python benchmarks/table3_gpu.py
	$(BIN)/python benchmarks/speed.py --arch preact-resnet18 --device auto $(SPEED)

# The documentation as a site in build/site, with every link checked. Its packages need a newer `requests` than
# torchattacks allows, so they have an environment of their own.
DOCS_EXTRA := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])
.PHONY: docs
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.venv-docs/.installed: pyproject.toml docs/site/constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --constraint docs/site/constraints.txt $$($(PYTHON) -c '$(DOCS_EXTRA)')
	touch $@

# Certified beside attacked accuracy of a network that is not part of this repository: a table in docs/certification.md.
.PHONY: certified
certified: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/certified_mnist.py --shared $(SHARED) --write

# Puts the outcomes of each committed run into one file, for fewer files in the repository.
.PHONY: compact
compact: $(INSTALLED)
	$(BIN)/csrobust compact $(patsubst %/run.json,%,$(wildcard reports/*/run.json))

# Writes the committed reports, and README's tables and figure, again from stored outcomes.
.PHONY: rewrite
rewrite: $(INSTALLED)
	for run in reports/*/run.json reports/*/shift.json; do $(BIN)/csrobust report "$$(dirname "$$run")" --quiet || exit 1; done
	$(BIN)/python docs/readme_findings.py
	$(MAKE) board

report-cifar10: data/cifar10_test.npz
	rm -rf reports/cifar10-resnet20
	$(BIN)/csrobust eval --ckpt resnet20=$(SHARED)/checkpoints/resnet20-12fca82f.th $(CIFAR) \
		--rci N=128 --rci N=190 --attacks paper,adaptive,pgd-10+loss=margin
	$(BIN)/csrobust eval --ckpt resnet20=$(SHARED)/checkpoints/resnet20-12fca82f.th $(CIFAR) \
		--rci N=128 --rci N=190 --attacks pgd-10@1/255
	$(BIN)/csrobust eval --ckpt resnet20=$(SHARED)/checkpoints/resnet20-12fca82f.th $(CIFAR) \
		--rci N=190 --attacks pgd-100@2/255
	$(BIN)/csrobust eval $(foreach r,erm mixup coded,--ckpt $(r)=$(SHARED)/checkpoints/resnet20-$(r).safetensors) $(CIFAR) \
		--rci N=128 --rci N=190 --attacks paper,transfer-pgd-20,aware-pgd-10
	$(BIN)/csrobust sweep --ckpt coded=$(SHARED)/checkpoints/resnet20-coded.safetensors $(CIFAR) --rci N=1.5K

# Table 5: trainings of our own under the corruptions of CIFAR-10-C, made here. Forward passes alone.
.PHONY: report-shift
report-shift: data/cifar10_test.npz
	$(BIN)/csrobust shift $(OURS) --ckpt pgd-at=checkpoints/cifar10-pgd-at-resnet20.safetensors \
		--data npz:data/cifar10_test.npz --limit 1000 --batch-size 32 --draws 2 --rci N=1.5K \
		--threads 1 --workers 2 --out reports/cifar10-shift

# Table 3 of the checkpoints that this project trained on CIFAR-10, as many as there are, Table 10 of the coded
# one, and all beside ERM. ADAPTIVE is that preset on whole batches, without its victims and checks. A stopped run
# goes on; remove the folder to start again.
OURS := $(foreach r,erm mixup manifold-mixup coded,$(patsubst %,--ckpt $(r)=%,$(wildcard checkpoints/cifar10-$(r)-resnet20.safetensors)))
ADAPTIVE = $(shell $(BIN)/python -c "from attacks.presets import PRESETS; print(','.join(PRESETS['adaptive']))")
RECIPES := $(ON_CIFAR) --attack-precision auto --out reports/cifar10-recipes

# The board: published defences around the digits networks, RCI from the reports above, and LWTA with its authors' weights.
TRAINED_BEHIND := k-winners-take-all parametric-noise random-projection-filters random-transforms
BOARD := board-digits board-digits-coupled board-digits-control board-digits-kept board-digits-variation \
	board-digits-purification board-digits-costly board-digits-l2 board-digits-autoattack board-lwta \
	$(TRAINED_BEHIND:%=board-cifar10-%) digits cifar10-resnet20 cifar10-adversarial
.PHONY: board report-board-digits report-board-cifar10 report-board-lwta
board: $(INSTALLED)
	$(BIN)/csrobust board $(wildcard $(BOARD:%=reports/%)) --out reports/board

# Where little is left, many examples and the attacks that settle it. Batches of 16 where answers depend on them: more
# batches. The control, and what keeps something, meet every attack and check on fewer examples. Some have folders of their
# own: --until settled plans a folder anew for the defences that it is given. The second command on COUPLED scores two attacks
# on every example as the only victim of a random batch; the third harms inputs that nobody perturbs. The last folder
# of the kept ones submits each input ten times, as a published break of purification does.
INDEPENDENT := anti-adversary bit-depth feature-squeezing jpeg k-winners-take-all parametric-noise pixel-deflection \
	random-projection-filters random-self-ensemble random-transforms resize-pad stochastic-activation-pruning \
	thermometer
ADAPTED := batch-norm-adaptation tent
COUPLED := $(ADAPTED) stateful-detection
KEPT := adaptive-smoothing diffusion-purification
AUTOATTACKED := parametric-noise pixel-deflection random-projection-filters random-self-ensemble random-transforms \
	resize-pad stochastic-activation-pruning
DIGITS_ERM := --ckpt erm=checkpoints/digits-erm.safetensors --data digits --threads 1 --workers 1
DRAWS := --draws 4 --selection-draws 4
report-board-digits: $(INSTALLED)
	rm -rf reports/board-digits reports/board-digits-*
	$(BIN)/csrobust eval $(DIGITS_ERM) $(INDEPENDENT:%=--defence published:%) --eps 0.2 $(DRAWS) \
		--limit 512 --batch-size 32 --until settled --out reports/board-digits
	$(BIN)/csrobust eval $(DIGITS_ERM) $(COUPLED:%=--defence published:%) --rci N=1K --rci N=1.5K --eps 0.2 $(DRAWS) \
		--limit 512 --batch-size 16 --until settled --out reports/board-digits-coupled
	$(BIN)/csrobust eval $(DIGITS_ERM) $(COUPLED:%=--defence published:%) --rci N=1K --rci N=1.5K --eps 0.2 $(DRAWS) \
		--limit 512 --batch-size 16 --attacks transfer-pgd-20,transfer-apgd-mt-20 --inputs batch,victim \
		--out reports/board-digits-coupled
	$(BIN)/csrobust eval $(DIGITS_ERM) $(ADAPTED:%=--defence published:%) --no-standard --eps 0.2 --limit 128 --batch-size 16 \
		--inputs collateral --attacks pgd-20+loss=margin --out reports/board-digits-company
	$(BIN)/csrobust eval --ckpt pgd-at=checkpoints/digits-pgd-at.safetensors --data digits --threads 1 --workers 1 \
		--eps 0.2 $(DRAWS) --limit 128 --batch-size 32 --out reports/board-digits-control
	$(BIN)/csrobust eval $(DIGITS_ERM) $(KEPT:%=--defence published:%) --eps 0.2 $(DRAWS) \
		--limit 128 --batch-size 32 --out reports/board-digits-kept
	$(BIN)/csrobust eval $(DIGITS_ERM) --defence published:diffusion-purification --no-standard --eps 0.2 --draws 10 \
		--selection-draws 4 --submissions 10 --limit 128 --batch-size 32 \
		--attacks pgd-100+momentum=1 --out reports/board-digits-submissions
	$(BIN)/csrobust eval $(DIGITS_ERM) --defence published:total-variation --eps 0.2 $(DRAWS) \
		--limit 512 --batch-size 32 --until settled --out reports/board-digits-variation
	$(BIN)/csrobust eval $(DIGITS_ERM) --defence published:score-purification --eps 0.2 $(DRAWS) \
		--limit 256 --batch-size 32 --until settled --out reports/board-digits-purification
	$(BIN)/csrobust eval $(DIGITS_ERM) --defence published:mixup-inference --eps 0.2 $(DRAWS) \
		--limit 256 --batch-size 64 --until settled --out reports/board-digits-costly
	$(BIN)/csrobust eval $(DIGITS_ERM) --defence published:randomised-smoothing --norm l2 --eps 0.25 $(DRAWS) \
		--limit 256 --batch-size 64 --until settled --certify --out reports/board-digits-l2
	$(BIN)/csrobust eval $(DIGITS_ERM) $(AUTOATTACKED:%=--defence published:%) --eps 0.2 --draws 1 --selection-draws 1 \
		--attacks autoattack:rand --peer-raw --no-standard --limit 32 --batch-size 32 --out reports/board-digits-autoattack
	$(BIN)/csrobust compact reports/board-digits reports/board-digits-*
	for run in control l2 kept; do $(BIN)/csrobust power reports/board-digits-$$run || exit 1; done

# CIFAR-10, each defence around the network that was trained behind it.
BEHIND = $(BIN)/csrobust eval --ckpt $(1)=checkpoints/cifar10-$(2)-$(3)-resnet20.safetensors --defence published:$(3) \
	--data npz:data/cifar10_test.npz --attack-precision auto $(DRAWS) --limit $(4) --batch-size 64 --until settled \
	--threads 1 --workers 1 --out reports/board-cifar10-$(3)
report-board-cifar10: data/cifar10_test.npz
	rm -rf $(TRAINED_BEHIND:%=reports/board-cifar10-%)
	$(call BEHIND,pni,pgd-at,parametric-noise,512)
	$(call BEHIND,rpf,pgd-at,random-projection-filters,256)
	$(call BEHIND,transforms,erm,random-transforms,512)
	$(call BEHIND,kwta,erm,k-winners-take-all,512)
	$(BIN)/csrobust compact $(TRAINED_BEHIND:%=reports/board-cifar10-%)

# The authors' weights, and the accuracy that their log claims under AutoAttack's rand.
report-board-lwta: data/cifar10_test.npz
	rm -rf reports/board-lwta
	$(BIN)/csrobust eval --ckpt lwta-wrn34-1=$(SHARED)/checkpoints/lwta-wrn34-1.pt --data npz:data/cifar10_test.npz \
		--limit 64 --batch-size 16 --draws 4 --selection-draws 4 --threads 1 --claim 76.08% \
		--attacks pgd-10,aware-pgd-10,relaxed-pgd-20+momentum=1 --out reports/board-lwta

# The same weights on more images, without an attacker who knows the draw.
.PHONY: report-lwta
report-lwta: data/cifar10_test.npz
	rm -rf reports/lwta
	$(BIN)/csrobust eval --ckpt lwta-wrn34-1=$(SHARED)/checkpoints/lwta-wrn34-1.pt --data npz:data/cifar10_test.npz \
		--limit 640 --batch-size 64 --draws 2 --selection-draws 2 --threads 1 --workers 1 --claim 76.08% \
		--attacks pgd-10,relaxed-pgd-20+momentum=1 --out reports/lwta
	$(BIN)/csrobust compact reports/lwta
	rm -r reports/lwta/adversarials # 31 MB

.PHONY: report-recipes report-ablations report-ablations-cifar10 report-figures
report-recipes: data/cifar10_test.npz
	@test -n "$(strip $(OURS))" || { echo "no checkpoints/cifar10-*-resnet20.safetensors; train them by recipes/" >&2; exit 1; }
	$(BIN)/csrobust eval $(OURS) $(RECIPES) --rci N=128 --rci N=190 --attacks paper,$(ADAPTIVE)
ifneq ($(findstring coded=,$(OURS)),)
	$(BIN)/csrobust sweep --ckpt coded=checkpoints/cifar10-coded-resnet20.safetensors $(RECIPES) --rci N=1.5K
endif
ifneq ($(findstring erm=,$(OURS)),)
	$(BIN)/csrobust compare reports/cifar10-recipes --baseline erm --format md,html,csv,latex --out reports/cifar10-trainings
endif

# The control: an adversarially trained network, of which something should be left, alone and behind RCI. Default
# attacks, and the margin in the paper's ten steps.
.PHONY: report-adversarial
report-adversarial: data/cifar10_test.npz
	rm -rf reports/cifar10-adversarial
	$(BIN)/csrobust eval --ckpt pgd-at=checkpoints/cifar10-pgd-at-resnet20.safetensors $(ON_CIFAR) --rci N=1.5K \
		--attacks paper,adaptive,pgd-10+loss=margin --out reports/cifar10-adversarial
	$(BIN)/csrobust compact reports/cifar10-adversarial

# Table 2 and Figure 5b in a small form: WGAN-GP on digits, shortened from the paper's 100,000 iterations.
.PHONY: report-gan report-tabular
report-gan: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/csrobust gan --data digits --features checkpoints/digits-erm.safetensors --n 64,96 \
		--iterations 1500 --every 125 --seeds 3 --workers 2 --out reports/digits-gan

# The same on CIFAR-10 at 32 x 32, shortened to 10,000 images, 40 iterations and one seed.
data/cifar10-short/cifar10_train.npz: data/cifar10_test.npz
	mkdir -p data/cifar10-short && cp data/cifar10_test.npz data/cifar10-short/
	$(BIN)/python -c "import numpy as np; d = np.load('data/cifar10_train.npz'); np.savez('$@', **{n: d[n][:10000] for n in 'xy'})"

.PHONY: report-gan-cifar10
report-gan-cifar10: data/cifar10-short/cifar10_train.npz
	OMP_NUM_THREADS=1 $(BIN)/csrobust gan --data cifar10 --data-dir data/cifar10-short \
		--features checkpoints/cifar10-erm-resnet20.safetensors --n 64,96 --iterations 40 --every 20 --samples 1000 --seeds 1 \
		--out reports/cifar10-gan

# Beyond images: coded training on scikit-learn's tables.
report-tabular: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/csrobust tabular --seeds 10 --out reports/tabular

# Tables 1 and 6 to 9 on digits. At eps = 0.1 some of the images stand; at the usual 0.3 all settings are alike.
report-ablations: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/csrobust ablate all --data digits --arch digits-cnn --seeds 3 --eps 0.1 --device cpu \
		--out reports/digits-ablations

# Tables 6 to 9 on CIFAR-10, shortened: five epochs of 10,000 images where the paper has 350 of 50,000.
data/cifar10_train_10000.npz: data/cifar10_test.npz
	$(BIN)/python -c "import numpy as np; d = np.load('data/cifar10_train.npz'); np.savez('$@', **{n: d[n][:10000] for n in 'xy'})"

report-ablations-cifar10: data/cifar10_train_10000.npz
	OMP_NUM_THREADS=1 $(BIN)/csrobust ablate n mu blocks dropout --data npz:data/cifar10_train_10000.npz \
		--test-data npz:data/cifar10_test.npz --arch resnet20 --epochs 5 --seeds 1 --precision bfloat16 \
		--device cpu --limit 256 --out reports/cifar10-ablations

report-figures: $(INSTALLED) report-ablations
	$(BIN)/csrobust figure spiral --out reports/paper-figures
	$(BIN)/csrobust figure lemma1 --ckpt erm=checkpoints/digits-erm.safetensors \
		--ckpt coded=checkpoints/digits-coded.safetensors --out reports/paper-figures
	$(BIN)/csrobust figure smoothness $(DIGITS) --out reports/paper-figures
	$(BIN)/csrobust figure loss --data digits --arch digits-cnn --seeds 3 --out reports/digits-ablations
