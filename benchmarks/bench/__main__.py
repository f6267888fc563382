"""``python -m benchmarks.bench``: what attacks cost on this machine."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from benchmarks.smoke import smoke
from robustbench_coded.cli.app import run_command
from robustbench_coded.cli.main import answered
from robustbench_coded.cli.parser import AsJson, command_of, examples
from robustbench_coded.options.option import Option

SHORT = {"images": 32, "steps": 2, "rounds": 3}
PROGRAM = "python -m benchmarks.bench"


@examples(f"{PROGRAM} --short")
def bench_command(
    *,
    checkpoint: Annotated[Path | None, Option("Checkpoint whose network is timed.", word="ckpt")] = None,
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

    size: dict[str, Any] = SHORT if short else {"images": images, "steps": steps, "rounds": rounds}
    options = BenchOptions(checkpoint, arch, device=device, threads=threads, **size)
    report = bench(options, lambda text: print(f"... {text}", file=sys.stderr))
    print("\n".join([json.dumps(report.as_data())] if as_json else plain(report)))
    return 0


if __name__ == "__main__":
    smoke("--arch digits-cnn --images 8 --steps 1 --rounds 1")
    sys.exit(answered(lambda: run_command(command_of(PROGRAM, bench_command), sys.argv[1:])))
