#!/usr/bin/env bash
# Our attacks beside those of other libraries at equal budgets: benchmarks/peers/league.sh --shared DIR, which has the MNIST networks.
# In an environment of its own, as their packages want others. visdom, which adv-lib imports, is built with what
# setuptools had until 80.
set -euo pipefail
cd "$(dirname "$0")/../.."
env=.venv-league
if [ ! -e $env/.installed ]; then
    "${PYTHON:-python3}" -m venv $env
    $env/bin/pip install --quiet --upgrade pip
    $env/bin/pip install --quiet --editable ".[peers]" --constraint constraints.txt
    $env/bin/pip install --quiet "setuptools<81" wheel
    $env/bin/pip install --quiet --no-build-isolation visdom
    $env/bin/pip install --quiet foolbox adversarial-robustness-toolbox adv-lib
    touch $env/.installed
fi
OMP_NUM_THREADS=1 $env/bin/python benchmarks/peers/league.py "$@"
