"""``csrobust paper``, and of its commands ``ablate`` and ``gan``: what each option of coded training is worth
(Tables 1 and 6 to 9 of arXiv 2510.00253), and WGAN-GP with and without coded-smoothing.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from robustbench_coded.cli import process
from robustbench_coded.cli.parser import AsJson, Group, examples, takes
from robustbench_coded.errors import LOG, InputError
from robustbench_coded.options.option import Option, check_value, count
from robustbench_coded.options.values import counts, radius
from robustbench_coded.paper.commands import training_options
from robustbench_coded.paper.commands.figure import FIGURES
from robustbench_coded.paper.shift.command import shift_command


@examples(
    "csrobust paper ablate n mu --data digits --arch digits-cnn --seeds 3",
)
@takes(
    *("arch", "data", "test_data", "data_dir", "epochs", "schedule", "batch_size", "learning_rate"),
    *("weight_decay", "validation", "precision", "device", "seed"),
    of=training_options.TRAINING,
)
def ablate_command(
    studies: Annotated[
        list[str], Option("recipe, n, mu, blocks, dropout, order, nodes; or all.", positional=True)
    ],
    *,
    out: Annotated[Path | None, Option("Folder; reports/ablations-DATA-ARCH unless given.")] = None,
    values: Annotated[
        str | None,
        Option("Settings of one study instead of the usual: 110,1.5K or 0,0+1 or erm,coded."),
    ] = None,
    seeds: Annotated[int, Option("Runs per setting.")] = 5,
    limit: Annotated[int, Option("Test images for RCI and attacks.")] = 640,
    draws: Annotated[int, Option("Scoring draws of RCI.")] = 10,
    eps: Annotated[str | None, Option("Radius of the attacks, default 8/255 (digits: 0.3).")] = None,
    as_json: AsJson = False,
    **training: Any,
) -> int:
    """Train and evaluate a series of settings.

    The same command resumes a stopped study.
    """
    from robustbench_coded.paper.ablations.report import sheet_of, write_studies
    from robustbench_coded.paper.ablations.run import Laboratory
    from robustbench_coded.paper.ablations.studies import STUDIES, AblationSettings, base_config, study_named

    chosen = list(STUDIES.values()) if studies == ["all"] else [study_named(name) for name in studies]
    if values is not None and len(chosen) > 1:
        raise InputError("--values belongs to one study; name that one alone")
    base = base_config(**training_options.given(training))
    settings = AblationSettings(
        base, seeds=seeds, limit=limit, draws=draws, eps=None if eps is None else radius(eps, "--eps")
    )
    listed = [part.strip() for part in values.split(",")] if values is not None else []
    planned = [(study, study.points(settings, listed)) for study in chosen]
    folder = out or Path("reports") / f"ablations-{_plain(base.data)}-{base.arch}"
    laboratory = Laboratory(folder, settings, quiet=False)
    training_options.made(folder)
    laboratory.study(planned)
    results = write_studies(laboratory, planned)
    if as_json:
        print(json.dumps({name: [r.as_columns() for r in rows] for name, rows in results.items()}))
        return 0
    from rich.console import Console

    from robustbench_coded.reports.render.plain_table import PlainTable

    for study, _ in planned:
        clean = [r for r in results[study.name] if r.attack == "clean"]
        Console().print(PlainTable(f"{study.title}, unperturbed inputs", sheet_of(study, clean)))
    print(f"report: {folder / 'report.md'}")
    return 0


def _plain(data: str) -> str:
    """The data's name as a part of a folder's: ``npz:a/cifar10.npz`` is cifar10."""
    return Path(data.partition(":")[2] or data).stem


RESUME = "the same command goes on"


@examples(
    "csrobust paper gan --data digits --features digits-erm --n 64,96 --iterations 1000 --seeds 3",
    "csrobust paper gan --data celeba:celeba --features inception:weights-inception-2015-12-05-6726825d.pth",
)
def gan_command(
    features: Annotated[
        str,
        Option(
            "What measures the generated images by its features and predictions: a checkpoint, or "
            "inception:FILE with torch-fidelity's weights."
        ),
    ],
    data: Annotated[str, Option("Training images, as for train, or celeba:DIR.")] = "digits",
    data_dir: training_options.DataDir = None,
    n: Annotated[str, Option("Coded inputs of the coded generators: 64,96.")] = "64,96",
    mu: Annotated[float, Option("Weight of the coded path.")] = 0.5,
    iterations: Annotated[int, Option("Generator steps; the paper has 100000.")] = 1000,
    batch_size: Annotated[int, Option("K.")] = 64,
    every: Annotated[int, Option("Iterations between measurements.")] = 100,
    samples: Annotated[int, Option("Generated images per measurement; the paper has 50000.")] = 2000,
    seeds: Annotated[int, Option("Trainings of each generator.")] = 3,
    seed: training_options.FirstSeed = 0,
    device: Annotated[str, Option("cpu, cuda ...")] = "cpu",
    out: Annotated[Path, Option("Folder.")] = Path("reports/gan"),
    quiet: training_options.Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Train plain and coded generators and compare them.

    The same command resumes stopped trainings.
    """
    from robustbench_coded.evaluation.options.device import device_named
    from robustbench_coded.paper.generation.config import GanConfig
    from robustbench_coded.paper.generation.report import last_points, write_gan_report
    from robustbench_coded.paper.generation.study import study

    check_value("--seeds", seeds, count())
    plain = GanConfig(data, None, mu, iterations, batch_size, every=every, samples=samples, seed=seed)
    coded = [replace(plain, n=size) for size in counts(n, "--n")]
    on = str(device_named(device))
    try:
        with training_options.made_for(out):
            study([plain, *coded], features, out, seeds=seeds, data_dir=data_dir, device=on, quiet=quiet)
    except KeyboardInterrupt:
        LOG.warning(f"stopped; {out} holds what was measured; {RESUME}")
        return process.INTERRUPTED
    ends = last_points(write_gan_report(out))
    if as_json:
        print(json.dumps([point._asdict() for of_seed in ends.values() for point in of_seed.values()]))
    else:
        print(f"report: {out / 'report.md'}")
    return 0


PAPER = Group(
    "Repeat the studies of the paper: ablate, figure, gan and shift.",
    {"ablate": ablate_command, "figure": FIGURES, "gan": gan_command, "shift": shift_command},
)
