"""``csrobust paper``: its tables of trainings (``ablate``), its generators (``gan``), its figures, and
accuracy under shift.
"""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from robustbench_coded.cli import process
from robustbench_coded.cli.parser import AsJson, Group, Quiet, config_from, examples, takes
from robustbench_coded.cli.run import evaluated, require_checkpoints
from robustbench_coded.errors import LOG
from robustbench_coded.options.option import Option, check_value, count
from robustbench_coded.options.values import counts, named_paths, radius
from robustbench_coded.paper.commands.train import Settings, made
from robustbench_coded.reports.text.escape import one_line

if TYPE_CHECKING:
    from robustbench_coded.paper.figures.drawn import PaperFigure

DataDir = Annotated[Path | None, Option("Folder in which to look for data sets.")]
FigureOut = Annotated[Path, Option("Folder for the SVG and the numbers.")]
FIGURES = Path("runs/paper-figures")


@examples("csrobust paper ablate n mu -o data=digits -o arch=digits-cnn --seeds 3")
def ablate_command(
    studies: Annotated[
        list[str], Option("recipe, n, mu, blocks, dropout, order, nodes; or all.", positional=True)
    ],
    *,
    option: Settings = None,
    out: Annotated[Path | None, Option("Folder; runs/ablations-DATA-ARCH unless given.")] = None,
    seeds: Annotated[int, Option("Runs per setting.")] = 5,
    limit: Annotated[int, Option("Test images for RCI and attacks.")] = 640,
    draws: Annotated[int, Option("Scoring draws of RCI.")] = 10,
    eps: Annotated[str | None, Option("Radius of the attacks, default 8/255 (digits: 0.3).")] = None,
    as_json: AsJson = False,
) -> int:
    """Train and evaluate a series of settings.

    The same command resumes a stopped study.
    """
    from robustbench_coded.paper.ablations.report import sheet_of, write_studies
    from robustbench_coded.paper.ablations.studies import (
        STUDIES,
        AblationRecords,
        AblationSettings,
        base_config,
        make_missing,
        study_named,
    )
    from robustbench_coded.paper.training.config import settings_of

    chosen = list(STUDIES.values()) if studies == ["all"] else [study_named(name) for name in studies]
    base = base_config(**settings_of(option or ()))
    at = None if eps is None else radius(eps, "--eps")
    settings = AblationSettings(base, seeds=seeds, limit=limit, draws=draws, eps=at)
    planned = [(study, study.points(settings)) for study in chosen]
    plain = Path(base.data.partition(":")[2] or base.data).stem  # npz:a/cifar10.npz is cifar10
    folder = out or Path("runs") / f"ablations-{plain}-{base.arch}"
    records = AblationRecords(folder)
    made(folder)
    make_missing(records, settings, planned, quiet=False)
    results = write_studies(records, settings, planned)
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


def spiral_command(
    out: FigureOut = FIGURES,
    seeds: Annotated[int, Option("Networks per recipe.")] = 3,
    epochs: Annotated[int, Option("Passes over the points.")] = 300,
    as_json: AsJson = False,
) -> int:
    """Figure 1b: decision boundaries of three trainings."""
    check_value("--seeds", seeds, count())
    check_value("--epochs", epochs, count())
    from robustbench_coded.paper.figures.drawn import spiral

    made(out)
    return _write(spiral(seeds=seeds, epochs=epochs), out, as_json)


def lemma1_command(
    out: FigureOut = FIGURES,
    ckpt: Annotated[list[str] | None, Option("Checkpoint, PATH or NAME=PATH; may be repeated.")] = None,
    data: Annotated[str, Option("Images; auto: the data of the checkpoints.")] = "auto",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> int:
    """Lemma 1: the error of coded smoothing over N.

    For two formulas and checkpoints, compared with N^-3.
    """
    from robustbench_coded.paper.figures.drawn import lemma1, networks_of

    made(out)
    networks = networks_of(named_paths(ckpt, "--ckpt"), data, data_dir) if ckpt else {}
    return _write(lemma1(networks), out, as_json)


def loss_command(
    *,
    option: Settings = None,
    out: FigureOut = FIGURES,
    seeds: Annotated[int, Option("Runs per recipe.")] = 3,
    recipes: Annotated[str, Option("Recipes, comma-separated.")] = "erm,mixup,manifold-mixup,coded",
    as_json: AsJson = False,
) -> int:
    """Figure 5a: validation loss during training.

    Reuses runs that an ablation has written to --out.
    """
    from robustbench_coded.paper.ablations.studies import (
        AblationRecords,
        AblationSettings,
        base_config,
        histories,
        recipe_points,
    )
    from robustbench_coded.paper.figures.drawn import loss
    from robustbench_coded.paper.training.config import settings_of

    settings = AblationSettings(base_config(**settings_of(option or ())), seeds=seeds)
    points = recipe_points(settings, [part.strip() for part in recipes.split(",")])
    records = AblationRecords(out)
    made(out)
    where = f"{settings.base.arch} on {settings.base.data}"
    return _write(loss(histories(records, settings, points), where=where), out, as_json)


def _write(figure: "PaperFigure", out: Path, as_json: bool) -> int:
    from robustbench_coded.paper.figures.drawn import write_figure

    paths = [str(path) for path in write_figure(figure, out)]
    if as_json:
        print(json.dumps({"figure": figure.drawing.name, "files": paths}))
    else:
        print(figure.drawing.caption, *paths, sep="\n")
    return 0


@examples(
    "csrobust paper gan -o data=digits -o iterations=1000 --features digits-erm --n 64,96 --seeds 3",
    "csrobust paper gan -o data=celeba:DIR --features inception:weights-inception-2015-12-05-6726825d.pth",
)
def gan_command(
    features: Annotated[
        str,
        Option(
            "What measures the generated images by its features and predictions: a checkpoint, or "
            "inception:FILE with torch-fidelity's weights."
        ),
    ],
    option: Annotated[
        list[str] | None,
        Option(
            "Setting KEY=VALUE, repeated: data=digits or celeba:DIR, mu=0.5, iterations=1000 (the paper: "
            "100000), batch_size=64, every=100 (iterations between measurements), samples=2000 (the paper: "
            "50000), seed=0 ...; -o for short.",
            word="option",
        ),
    ] = None,
    data_dir: DataDir = None,
    n: Annotated[str, Option("Coded inputs of the coded generators: 64,96.")] = "64,96",
    seeds: Annotated[int, Option("Trainings of each generator.")] = 3,
    device: Annotated[str, Option("cpu, cuda ...")] = "cpu",
    out: Annotated[Path, Option("Folder.")] = Path("runs/gan"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Train plain and coded generators and compare them.

    The same command resumes stopped trainings.
    """
    from robustbench_coded.evaluation.options.device import device_named
    from robustbench_coded.paper.generation.report import last_points, write_gan_report
    from robustbench_coded.paper.generation.study import study
    from robustbench_coded.paper.generation.train import gan_config
    from robustbench_coded.paper.training.config import settings_of

    check_value("--seeds", seeds, count())
    settings = settings_of(option or ())
    configs = [gan_config(**settings, n=size) for size in (None, *counts(n, "--n"))]
    on = device_named(device)
    made(out)
    try:
        study(configs, features, out, seeds=seeds, data_dir=data_dir, device=on, quiet=quiet)
    except KeyboardInterrupt:
        LOG.warning(f"stopped; {out} holds what was measured; the same command goes on")
        return process.INTERRUPTED
    ends = last_points(write_gan_report(out))
    if as_json:
        print(json.dumps([point._asdict() for of_seed in ends.values() for point in of_seed.values()]))
    else:
        print(f"report: {out / 'report.md'}")
    return 0


SHIFTED = (
    "Corrupted here: auto, digits, cifar10, npz:FILE ... Read as they are: cifar10c:DIR, cifar10.1:DIR, "
    "cifar10.2:DIR, imagenet-r:DIR. May be repeated."
)


@examples(
    "csrobust paper shift --ckpt digits-erm --ckpt digits-coded --data digits --rci N=1.5K",
    "csrobust paper shift --ckpt erm=a.pt --ckpt coded=b.pt --data cifar10 --data cifar10.1:DIR --limit 1000",
    "csrobust paper shift --ckpt model.pt --data cifar10c:DIR --corruptions fog,frost --severities 3,5",
)
@takes(
    "checkpoints", "arch", "normalize", "rci", "coded", "defence", "standard", "data_dir",
    "limit", "first", "batch_size", "draws", "seed", "device", "threads", "workers", "engine",
    "out", "overwrite",
)  # fmt: skip
def shift_command(
    *,
    data: Annotated[tuple[str, ...], Option(SHIFTED)] = ("auto",),
    corruptions: Annotated[str | None, Option("fog,frost ...; all unless given.")] = None,
    severities: Annotated[str, Option("From 1 to 5: 1,3,5.")] = "1,2,3,4,5",
    quiet: Quiet = False,
    as_json: AsJson = False,
    **options: Any,
) -> int:
    """Measure accuracy under corruptions and covariate shift.

    Nothing is attacked.
    """
    from rich.console import Console

    from robustbench_coded.paper.shift.report import means_table
    from robustbench_coded.paper.shift.run import loaded, sets_named, shift
    from robustbench_coded.reports.render.plain_table import PlainTable

    evaluation = config_from(**options, data=data[0])
    require_checkpoints(evaluation)
    names = tuple(filter(None, map(str.strip, (corruptions or "").split(","))))
    sets = sets_named(evaluation, data, names, counts(severities, "--severities", example="1,3,5"))
    path, code = evaluated(evaluation, partial(shift, evaluation, sets), silent=quiet or as_json)
    if path is None:
        return code
    rows = loaded(path, sets).rows
    if as_json:
        print(json.dumps([figure for row in rows for figure in row.as_data()]))
        return code
    for (images, over), table in means_table(rows).split(2):
        Console().print(
            PlainTable(f"Accuracy under shift: {images}, {over}", table.without_empty(table.heads))
        )
    print(one_line(f"report: {path / 'report.md'}"))
    return code


FIGURE = Group(
    "Draw a figure of the paper from measurements of our own.",
    {"spiral": spiral_command, "lemma1": lemma1_command, "loss": loss_command},
)
PAPER = Group(
    "Repeat the studies of the paper: ablate, figure, gan and shift.",
    {"ablate": ablate_command, "figure": FIGURE, "gan": gan_command, "shift": shift_command},
)
