"""How cost grows with examples, with the size of batches, with steps and with draws.

    python benchmarks/speed/growth.py            writes benchmarks/speed/growth.md
    python benchmarks/speed/growth.py K steps    measures these parts again and leaves the others as they are
    python benchmarks/speed/growth.py --short    smaller, to the terminal alone

A ResNet-20 with random weights behind RCI with N = 1.5 K answers random images: time depends on neither.
Whole evaluations, each in a process of its own, are measured over the number of examples, with their memory;
single rows are measured over the rest, in one process and in turns.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.bench.table import pipes
from benchmarks.bench.timing import in_words, machine
from benchmarks.speed.parts import joined, parts_of
from robustbench_coded.evaluation.execution.run_unit import execute
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.evaluation.session.evaluation import make_plan
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.paper.training.save import save_checkpoint
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parent / "growth.md"
EXAMPLES = (640, 1280, 2560, 5120, 10_000)
REFERENCE_K = 128
ROWS = ("clean", "random-sign", "pgd-10")  # of whole evaluations
DRAWS = {"draws": 3, "selection_draws": 2}  # of whole evaluations: scoring grows as attacks do


@dataclass(frozen=True)
class Series:
    """One quantity that is raised while all else stays.

    Attributes:
        name: as the table says it.
        values: rising.
        reference: the value whose cost the others are compared with.
        attack: the row that is timed.
        options: of the configuration, for a value.
        constant: whether the cost should not grow with the value at all.
    """

    name: str
    values: tuple[int, ...]
    reference: int
    attack: str
    options: str
    constant: bool = False

    def config(self, made: "Made", value: int, examples: int) -> EvalConfig:
        """The evaluation whose row is timed."""
        given: dict[str, Any] = {"limit": examples, "draws": 1, "selection_draws": 1}
        if self.row(value) != "clean":  # which always runs
            given["attacks"] = (self.row(value),)
        if self.options != "attacks":
            given[self.options] = (value,) if self.options == "batch_size" else value
        return made.config(**given)

    def row(self, value: int) -> str:
        """The attack that is timed at a value."""
        return f"pgd-{value}" if self.options == "attacks" else self.attack


def series(short: bool) -> list[Series]:
    """What is raised beside the number of examples."""
    largest = 64 if short else 512
    sizes = tuple(k for k in (4, 8, 16, 32, 64, 128, 256, 512) if k <= largest)
    steps = (5, 10, 20) if short else (5, 10, 20, 40, 80)
    draws = (10, 20, 40) if short else (10, 20, 40, 80)
    return [
        Series("K", sizes, min(REFERENCE_K, largest), "pgd-5", "batch_size", constant=True),
        Series("steps", steps, steps[0], "", "attacks"),
        Series("scoring draws", draws, draws[0], "clean", "draws"),
    ]


@dataclass(frozen=True)
class Made:
    """A checkpoint and data made up for this: time depends on neither weights nor pixels."""

    folder: Path

    @classmethod
    def in_folder(cls, folder: Path, examples: int) -> "Made":
        """Writes both. The labels are what the network answers: one that is mostly wrong would be refused."""
        torch.manual_seed(0)
        plain = {"mean": [0.5] * 3, "std": [0.25] * 3}
        metadata = {"arch": "resnet20", "classes": 10, "image_shape": [3, 32, 32], "normalisation": plain}
        pixels = np.random.default_rng(0).integers(0, 256, (examples, 32, 32, 3), dtype=np.uint8)
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        network = build("resnet20", 10, 3, 32)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0
        with torch.no_grad():
            network.train()(x[:REFERENCE_K])  # so that its batch-norms have the statistics of these images
            labels = torch.cat([network.eval()(part).argmax(1) for part in x.split(256)])
        save_checkpoint(folder / "random.safetensors", network, metadata)
        np.savez(folder / "data.npz", x=pixels, y=labels.numpy())
        return cls(folder)

    def config(self, **options: Any) -> EvalConfig:
        """An evaluation of RCI alone on these."""
        return EvalConfig(
            checkpoints=(("random", str(self.folder / "random.safetensors")),),
            data=f"npz:{self.folder / 'data.npz'}",
            standard=False,
            defences=("rci:N=1.5K",),
            eps=(8 / 255,),
            **options,
        )


class Watch(Listener):
    """Notes when everything was loaded and the first rows were about to run."""

    def __init__(self) -> None:
        self.planned_at = 0.0

    def planned(self, plan: Plan, images: int, *, remade: int = 0) -> None:
        self.planned_at = self.planned_at or time.perf_counter()


def whole_evaluation(folder: Path, examples: int) -> dict[str, float]:
    """PGD-10 on that many examples, in this process: seconds of its parts, and the most memory."""
    watch, run = Watch(), folder / f"run-{examples}-{os.getpid()}"
    started = time.perf_counter()
    evaluate(Made(folder).config(limit=examples, attacks=ROWS[-1:], out=run, **DRAWS), watch)
    ended = time.perf_counter()
    seconds = {
        path.stem: json.loads(path.read_text())["seconds"] for path in (run / "timings").glob("*.json")
    }
    rows = [row for row in load_manifest(run).cases if row.case.attack in ROWS]
    own = sum(seconds[unit] for row in rows for unit in row.units)
    return {
        "memory": _most_memory(),
        "total": ended - started,
        "preparation": watch.planned_at - started,
        "rows": own,
        "others": sum(seconds.values()) - own,
        "rest": ended - watch.planned_at - sum(seconds.values()),
    }


def _most_memory() -> int:
    """The most memory that this process ever had, in bytes; its parent's is not counted."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"VmHWM:\s*(\d+) kB", status)
    return 1024 * int(kilobytes)


def in_its_own_process(folder: Path, examples: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--evaluation", str(examples), "--folder", str(folder)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(answer)


@dataclass(frozen=True)
class Work:
    """The units of one row, ready to be run in this process; nothing is written."""

    context: WorkerContext
    units: tuple[Unit, ...]

    @classmethod
    def of(cls, config: EvalConfig, attack: str) -> "Work":
        """The row of an attack."""
        prepared = prepare(config)
        units = [unit for unit in make_plan(prepared).units if unit.case.attack == attack]
        return cls(prepared.context, tuple(units))

    def seconds(self) -> float:
        """One worker's time for them."""
        torch.set_num_threads(self.context.setup.threads)
        return sum(execute(self.context, unit).timing["seconds"] for unit in self.units)


def measured(made: Made, one: Series, examples: int, rounds: int) -> dict[int, float]:
    """Median seconds by value; a first round is not counted."""
    work = {value: Work.of(one.config(made, value, examples), one.row(value)) for value in one.values}
    taken: dict[int, list[float]] = {value: [] for value in one.values}
    for turn in range(-1, rounds):
        for value in one.values if turn % 2 else reversed(one.values):
            seconds = work[value].seconds()
            if turn >= 0:
                taken[value].append(seconds)
        print(f"... {one.name}, round {turn + 1} of {rounds}", file=sys.stderr)
    return {value: median(seconds) for value, seconds in taken.items()}


def growth_table(one: Series, seconds: dict[int, float]) -> str:
    """Cost by value, and how it stands to linear growth from the reference."""
    base = seconds[one.reference]
    rows = [(one.name, "seconds", "of linear growth")]
    for value, taken in seconds.items():
        expected = base if one.constant else base * value / one.reference
        mark = " (reference)" if value == one.reference else ""
        rows.append((str(value), f"{taken:.2f}", f"{taken / expected:.3f}{mark}"))
    return pipes(rows)


def examples_table(found: dict[int, dict[str, float]]) -> str:
    """Whole evaluations by number of examples."""
    first, base = next(iter(found.items()))
    rows = [
        (
            *("examples", "total s", "rows s", "of linear growth", "random batches, submissions s"),
            *("statistics, files, reports", "peak MB"),
        )
    ]
    for examples, parts in found.items():
        linear = parts["rows"] / (base["rows"] * examples / first)
        share = parts["rest"] / parts["total"]
        megabytes = f"{parts['memory'] / 2**20:.0f}"
        cells = (f"{parts['total']:.1f}", f"{parts['rows']:.1f}", f"{linear:.3f}", f"{parts['others']:.1f}")
        rows.append((f"{examples:,}", *cells, f"{parts['rest']:.2f} s, {share:.1%}", megabytes))
    return pipes(rows)


def introduction() -> str:
    """What was measured, and on what."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return (
        "# How cost grows\n\n"
        "A ResNet-20 with random weights behind RCI with N = 1.5 K, on random images. The figure of linear "
        "growth is the time over what it would be, had the first row's grown in proportion; for K, where it "
        "should not grow at all, over the reference's.\n\n"
        f"{in_words(machine(device))}."
    )


def over_examples(made: Made, sizes: Sequence[int]) -> str:
    """The part on whole evaluations."""
    found = {}
    for size in sizes:
        found[size] = in_its_own_process(made.folder, size)
        print(f"... {size} examples", file=sys.stderr)
    return (
        "PGD-10, clean inputs and random signs with 3 scoring and 2 selection draws, K = 128, each in a "
        "fresh process. Peak memory is the process's, the data included.\n\n" + examples_table(found)
    )


def over(made: Made, one: Series, examples: int, rounds: int) -> str:
    """The part on one series."""
    what = f"row `{one.attack}`" if one.attack else "PGD with one draw"
    table = growth_table(one, measured(made, one, examples, rounds))
    return f"{examples:,} examples, {what}.\n\n{table}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", help="examples, K, steps, draws; none for all of them")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--evaluation", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.evaluation:
        print(json.dumps(whole_evaluation(given.folder, given.evaluation)))
        return
    sizes, examples = ((128, 256), 64) if given.short else (EXAMPLES, 512)
    named = {one.name.split()[-1]: one for one in series(given.short)}
    if wrong := set(given.parts) - {"examples", *named}:
        parser.error(f"there is no part {wrong.pop()}; choose from examples, {', '.join(named)}")
    parts = parts_of(OUT) if given.parts else {}
    with tempfile.TemporaryDirectory() as folder:
        made = Made.in_folder(Path(folder), max(sizes))
        for name in given.parts or ("examples", *named):
            if name == "examples":
                parts["Examples"] = over_examples(made, sizes)
            else:
                title = named[name].name
                parts[title[0].upper() + title[1:]] = over(made, named[name], examples, given.rounds)
    text = joined(introduction(), parts)
    if given.short:
        print(text)
    else:
        write_text(OUT, text)
        print(OUT)


if __name__ == "__main__":
    main()
