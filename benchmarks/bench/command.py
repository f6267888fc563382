"""``csrobust bench``: what attacks cost on this machine."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_coded.cli.help import examples
from robustbench_coded.cli.options import AsJson

SHORT = {"images": 32, "steps": 2, "rounds": 3}


@examples(
    "csrobust bench --short",
)
def bench_command(
    ckpt: Annotated[Path | None, typer.Option("--ckpt", help="Checkpoint whose network is timed.")] = None,
    arch: Annotated[
        str, typer.Option("--arch", help="Architecture with random weights if there is no --ckpt.")
    ] = "resnet20",
    images: Annotated[int, typer.Option("--images", help="K, a multiple of 8.")] = 128,
    steps: Annotated[int, typer.Option("--steps", help="Steps of every PGD.")] = 10,
    rounds: Annotated[int, typer.Option("--rounds", help="Timed calls of each method.")] = 7,
    short: Annotated[
        bool, typer.Option("--short", help="Quick version: 32 images, 2 steps, 3 rounds.")
    ] = False,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda ...")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads.")] = None,
    as_json: AsJson = False,
) -> int:
    """Time attacks and coded inference beside the base model."""
    from benchmarks.bench.run import BenchOptions, bench
    from benchmarks.bench.table import plain

    size: dict[str, Any] = {"images": images, "steps": steps, "rounds": rounds}
    options = BenchOptions(
        checkpoint=ckpt, arch=arch, device=device, threads=threads, **(SHORT if short else size)
    )
    report = bench(options, lambda text: print(f"... {text}", file=sys.stderr))
    for line in [json.dumps(report.as_data())] if as_json else plain(report):
        print(line)
    return 0
