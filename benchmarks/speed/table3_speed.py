"""The standard rows of Table 3 of arXiv 2510.00253 as a user runs them, from the command to the report.

    python benchmarks/speed/table3_speed.py --ckpt resnet20.pt --data npz:cifar10_test.npz

FGSM, PGD-10 and PGD-100 on 1,280 images by ``csrobust eval``, with gradients in float32 and in bfloat16, and
the same attacks by torchattacks in a plain loop that scores what comes out. Each is a process of its own, in
turns. Writes benchmarks/speed/table3_speed.md; three minutes a round on two cores, nearly all for
torchattacks.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.bench.table import pipes
from benchmarks.bench.timing import in_words, machine
from benchmarks.smoke import smoke
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parent / "table3_speed.md"
ATTACKS = ("fgsm", "pgd-10", "pgd-100")
EPS = 8 / 255
BATCH = 128
PLAIN_LOOP = "torchattacks in a plain loop"


@dataclass(frozen=True)
class Result:
    """Attributes:
    seconds: wall time of the process.
    accuracy: by attack, and of clean inputs, fractions.
    """

    seconds: float
    accuracy: dict[str, float]


def ours(ckpt: Path, data: str, limit: int, precision: str) -> tuple[Result, dict[str, Any]]:
    """One ``csrobust eval`` in a fresh folder, and the normalisation that it settled on."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        options = ["--ckpt", str(ckpt), "--data", data, "--limit", str(limit), "--eps", str(EPS)]
        code = "from robustbench_coded.cli.main import main; main()"
        attacks = ["--attacks", ",".join(ATTACKS)]
        command = [sys.executable, "-c", code, "eval", *options, *attacks, "--out", str(run), "--quiet"]
        seconds = _timed(lambda: _silently([*command, "--attack-precision", precision]))
        table = pd.read_csv(run / "summary.csv").set_index("attack")
        checkpoint = json.loads((run / "run.json").read_text())["checkpoints"][0]
    found = {attack: float(table.accuracy[attack]) for attack in ("clean", *ATTACKS)}
    return Result(seconds, found), checkpoint["normalisation"]


def theirs(ckpt: Path, data: str, limit: int, normalisation: dict[str, Any]) -> Result:
    """The plain loop, in a process of its own; it is told the normalisation."""
    told = json.dumps({"mean": normalisation["mean"], "std": normalisation["std"]})
    command = [sys.executable, __file__, "--ckpt", str(ckpt), "--data", data, "--limit", str(limit)]
    answers: list[str] = []

    def run() -> None:
        done = subprocess.run([*command, "--plain-loop", told], check=True, capture_output=True, text=True)
        answers.append(done.stdout)

    seconds = _timed(run)
    return Result(seconds, json.loads(answers[0]))


def plain_loop(ckpt: Path, data: str, limit: int, mean: list[float], std: list[float]) -> dict[str, float]:
    """What a user of torchattacks writes: batch by batch, attack by attack."""
    import torch
    import torchattacks

    from robustbench_coded.data.registry import load_data
    from robustbench_coded.models.loading import load_checkpoint
    from robustbench_coded.models.pixel_model import PixelModel

    loaded = load_checkpoint(ckpt)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = PixelModel(loaded.network, mean, std, classes=loaded.classes, arch=loaded.arch).to(device)
    images = load_data(data)
    attacks = {
        "clean": lambda x, y: x,
        "fgsm": torchattacks.FGSM(model, eps=EPS),
        "pgd-10": torchattacks.PGD(model, eps=EPS, alpha=EPS / 4, steps=10),
        "pgd-100": torchattacks.PGD(model, eps=EPS, alpha=EPS / 8, steps=100),
    }
    right = dict.fromkeys(attacks, 0)
    for start in range(0, limit, BATCH):
        x, y = (t.to(device) for t in images.batch(range(start, min(start + BATCH, limit))))
        for name, attack in attacks.items():
            perturbed = attack(x, y)
            with torch.no_grad():
                right[name] += int((model(perturbed).argmax(1) == y).sum())
    return {name: count / limit for name, count in right.items()}


def report(results: dict[str, list[Result]], facts: dict[str, Any], limit: int) -> str:
    """The result in Markdown."""
    slowest = median(result.seconds for result in results[PLAIN_LOOP])
    rows: list[tuple[str, ...]] = [("", "seconds", "times faster", "clean", *ATTACKS)]
    for name, found in results.items():
        seconds = median(result.seconds for result in found)
        accuracy = [f"{100 * found[-1].accuracy[attack]:.2f}" for attack in ("clean", *ATTACKS)]
        rows.append((name, f"{seconds:.1f}", f"{slowest / seconds:.1f}", *accuracy))
    rounds = len(results[PLAIN_LOOP])
    parts = [
        "# The standard rows of Table 3 as a user runs them",
        f"{limit:,} images, standard inference, eps 8/255; wall time from the start of the process to the "
        f"written report, imports included; medians of {rounds} rounds in turns. Accuracies in percent.",
        pipes(rows),
        "csrobust stops on an example once it is broken; what it predicts is always asked of the original "
        "model in float32.",
        in_words(facts) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _silently(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--plain-loop", help=argparse.SUPPRESS)
    given = parser.parse_args()
    what = (given.ckpt, given.data, given.limit)
    if given.plain_loop:
        print(json.dumps(plain_loop(*what, **json.loads(given.plain_loop))))
        return
    results: dict[str, list[Result]] = {"csrobust eval": [], "csrobust eval, bfloat16": [], PLAIN_LOOP: []}
    for turn in range(given.rounds):
        result, normalisation = ours(*what, "float32")
        results["csrobust eval"].append(result)
        results["csrobust eval, bfloat16"].append(ours(*what, "bfloat16")[0])
        results[PLAIN_LOOP].append(theirs(*what, normalisation))
        print(f"... round {turn + 1} of {given.rounds}", file=sys.stderr)
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    write_text(given.out, report(results, machine(device), given.limit))
    print(given.out)


if __name__ == "__main__":
    smoke(
        "--ckpt checkpoints/digits-erm.safetensors --data digits --limit 16 --rounds 1 --out FOLDER/table3.md"
    )
    main()
