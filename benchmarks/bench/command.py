"""``python -m benchmarks.bench``: what attacks cost on this machine."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from robustbench_coded.cli.options import AsJson
from robustbench_coded.cli.parser import examples
from robustbench_coded.evaluation.options.option import Option

SHORT = {"images": 32, "steps": 2, "rounds": 3}


@examples(
    "python -m benchmarks.bench --short",
)
def bench_command(
    ckpt: Annotated[Path | None, Option("Checkpoint whose network is timed.")] = None,
    arch: Annotated[str, Option("Architecture with random weights if there is no --ckpt.")] = "resnet20",
    images: Annotated[int, Option("K, a multiple of 8.")] = 128,
    steps: Annotated[int, Option("Steps of every PGD.")] = 10,
    rounds: Annotated[int, Option("Timed calls of each method.")] = 7,
    short: Annotated[bool, Option("Quick version: 32 images, 2 steps, 3 rounds.")] = False,
    device: Annotated[str | None, Option("cpu, cuda ...")] = None,
    threads: Annotated[int | None, Option("CPU threads.")] = None,
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
