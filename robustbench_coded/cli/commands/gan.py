"""``csrobust gan``: WGAN-GP with and without coded-smoothing in the generator."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.cli.common_options import AsJson, DataDir, FirstSeed, Quiet, TensorBoard
from robustbench_coded.cli.exit_codes import FAILED, INTERRUPTED
from robustbench_coded.cli.out_folder import made_for
from robustbench_coded.cli.values import counts
from robustbench_coded.reports.text.escape import one_line

AGAIN = "the same command goes on"


def gan_command(
    features: Annotated[
        str,
        typer.Option(
            help="What measures the generated images: a checkpoint, by its features and predictions, or "
            "inception:FILE, torch-fidelity's weights, for FID and IS."
        ),
    ],
    data: Annotated[str, typer.Option(help="Training images, as for train.")] = "digits",
    data_dir: DataDir = None,
    n: Annotated[str, typer.Option("--n", help="Coded inputs of the coded generators: 64,96.")] = "64,96",
    mu: Annotated[float, typer.Option(help="Weight of the coded path.")] = 0.5,
    iterations: Annotated[int, typer.Option(help="Generator steps; the paper has 100000.")] = 1000,
    batch_size: Annotated[int, typer.Option(help="K.")] = 64,
    every: Annotated[int, typer.Option(help="Iterations between measurements.")] = 100,
    samples: Annotated[
        int, typer.Option(help="Generated images per measurement; the paper has 50000.")
    ] = 2000,
    seeds: Annotated[int, typer.Option(help="Trainings of each generator.")] = 3,
    seed: FirstSeed = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda ...")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes, each with one training at a time.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("reports/gan"),
    tensorboard: TensorBoard = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Train plain and coded generators and compare them.

    The same command resumes stopped trainings.
    """
    from robustbench_coded.engine.worker_pool import EngineError
    from robustbench_coded.evaluation.options.config import MOST_AT_ONCE
    from robustbench_coded.evaluation.options.option import check_value, count
    from robustbench_coded.evaluation.setup.device import device_named
    from robustbench_coded.generation.config import GanConfig
    from robustbench_coded.generation.report import last_points, write_gan_report
    from robustbench_coded.generation.study import study

    check_value("--seeds", seeds, count())
    check_value("--workers", workers, count(most=MOST_AT_ONCE))
    plain = GanConfig(data, None, mu, iterations, batch_size, every=every, samples=samples, seed=seed)
    coded = [
        GanConfig(data, size, mu, iterations, batch_size, every=every, samples=samples, seed=seed)
        for size in counts(n, "--n")
    ]
    on = str(device_named(device))
    try:
        with made_for(out):
            study(
                [plain, *coded], features, out, seeds=seeds, data_dir=data_dir, device=on, workers=workers,
                quiet=quiet, tensorboard=tensorboard,
            )  # fmt: skip
    except KeyboardInterrupt:
        print(one_line(f"csrobust: stopped; {out} holds what was measured; {AGAIN}"), file=sys.stderr)
        return INTERRUPTED
    except EngineError as error:
        print(one_line(f"csrobust: {error}; {AGAIN}"), file=sys.stderr)
        return FAILED
    ends = last_points(write_gan_report(out))
    if as_json:
        print(json.dumps([point._asdict() for of_seed in ends.values() for point in of_seed.values()]))
    else:
        print(f"report: {out / 'report.md'}")
    return 0
