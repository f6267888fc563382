"""``csrobust bench``: what attacks cost on this machine, beside the bare network and other packages."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robustbench_coded.bench.run import BenchReport, Section
    from robustbench_coded.bench.timing import Spread

SHORT = {"images": 32, "steps": 2, "rounds": 3}


def bench_command(
    ckpt: Annotated[Path | None, typer.Option("--ckpt", help="Checkpoint whose network is timed.")] = None,
    arch: Annotated[
        str, typer.Option("--arch", help="Otherwise this one, with random weights.")
    ] = "resnet20",
    images: Annotated[int, typer.Option("--images", help="K, a multiple of 8.")] = 128,
    steps: Annotated[int, typer.Option("--steps", help="Steps of every PGD.")] = 10,
    rounds: Annotated[int, typer.Option("--rounds", help="Calls of each contender that count.")] = 7,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also time networks that torch.compile has compiled.")
    ] = False,
    short: Annotated[bool, typer.Option("--short", help="32 images, 2 steps, 3 rounds: for a look.")] = False,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda ...")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one machine-readable object.")] = False,
) -> int:
    """Time attacks, coded inference and other packages side by side."""
    from robustbench_coded.bench.run import BenchOptions, bench

    size = SHORT if short else {"images": images, "steps": steps, "rounds": rounds}
    options = BenchOptions(
        checkpoint=ckpt, arch=arch, compiled=compiled, device=device, threads=threads, **size
    )
    report = bench(options, lambda text: print(f"... {text}", file=sys.stderr))
    if as_json:
        print(json.dumps(report.as_data()))
    else:
        _print(report)
    return 0


def _print(report: "BenchReport") -> None:
    facts = {**report.machine, **report.machine["versions"]}
    del facts["versions"]
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    for name, (seconds, comparison) in report.preparation.items():
        print(f"{name}: prepared in {seconds:.1f} s; {comparison}")
    for section in report.sections:
        print()
        for line in table(section):
            print(line)
    for note in report.notes:
        print(note)


def table(section: "Section") -> list[str]:
    """A section as lines: medians over the rounds, quartiles in brackets; costs per image of another row."""
    start_up = not section.memory
    unit, scale = ("ms", 1e3) if start_up else ("us/image", 1e6)
    numbers = {timing.name: str(i) for i, timing in enumerate(section.timings, 1)}
    rows = [("", section.title, unit, "cost", "peak MB")]
    for timing in section.timings:
        cost, memory = timing.cost, section.memory.get(timing.name)
        against = "" if cost is None else f"{_spread(cost, 1, 3)} of {numbers[timing.against or timing.name]}"
        megabytes = "" if memory is None else f"{memory / 2**20:.0f}"
        time = _spread(timing.per_image, scale, 0)
        rows.append((numbers[timing.name], timing.name, time, against, megabytes))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _spread(spread: "Spread", scale: float, digits: int) -> str:
    median, low, high = (f"{scale * value:.{digits}f}" for value in (spread.median, spread.low, spread.high))
    return f"{median} [{low}, {high}]"
