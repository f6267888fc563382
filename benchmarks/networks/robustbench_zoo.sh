#!/usr/bin/env bash
# Which of RobustBench's definitions load, in an environment of its own: its package wants older libraries.
# On two cores about half an hour, and 12 GB of memory for the largest networks; with --rows FILE a stopped one goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
env=.venv-robustbench
if [ ! -e $env/.installed ]; then
    "${PYTHON:-python3}" -m venv $env
    $env/bin/pip install --quiet --upgrade pip
    $env/bin/pip install --quiet --editable ".[timm]" robustbench
    touch $env/.installed
fi
OMP_NUM_THREADS=2 $env/bin/python benchmarks/networks/robustbench_zoo.py "$@"
