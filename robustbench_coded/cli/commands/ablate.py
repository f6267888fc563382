"""``csrobust ablate``: what each option of coded training is worth, Tables 1 and 6 to 9 of the paper."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_coded.cli.common_options import (
    Arch,
    AsJson,
    Count,
    DataDir,
    Device,
    Epochs,
    FirstSeed,
    LearningRate,
    Precision,
    TestData,
    Text,
    Validation,
    WeightDecay,
)
from robustbench_coded.cli.out_folder import made
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.radii import radius

if TYPE_CHECKING:
    from robustbench_coded.ablations.results import Result


def ablate_command(
    studies: Annotated[
        list[str], typer.Argument(help="recipe, n, mu, blocks, dropout, order, nodes; or all.")
    ],
    data: Annotated[str, typer.Option(help="Training images, as for eval.")],
    arch: Arch,
    out: Annotated[
        Path | None, typer.Option(help="Folder; reports/ablations-DATA-ARCH unless given.")
    ] = None,
    values: Annotated[
        Text, typer.Option(help="Settings of one study instead of the usual: 110,1.5K or 0,0+1 or erm,coded.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs per setting.")] = 5,
    seed: FirstSeed = 0,
    test_data: TestData = None,
    data_dir: DataDir = None,
    epochs: Epochs = None,
    schedule: Annotated[Text, typer.Option(help="one-cycle or paper (350 epochs).")] = None,
    batch_size: Annotated[Count, typer.Option(help="K, of training and of RCI.")] = None,
    learning_rate: LearningRate = None,
    weight_decay: WeightDecay = None,
    validation: Validation = None,
    precision: Precision = None,
    device: Device = None,
    limit: Annotated[int, typer.Option(help="Test images for RCI and attacks.")] = 640,
    draws: Annotated[int, typer.Option(help="Scoring draws of RCI.")] = 10,
    eps: Annotated[Text, typer.Option(help="Radius of the attacks, default 8/255 (digits: 0.3).")] = None,
    as_json: AsJson = False,
) -> int:
    """Train and evaluate a series of settings.

    The same command resumes a stopped study.
    """
    from robustbench_coded.ablations.report import write_studies
    from robustbench_coded.ablations.run import Laboratory
    from robustbench_coded.ablations.settings import AblationSettings, base_config
    from robustbench_coded.ablations.sheet import sheet_of
    from robustbench_coded.ablations.studies import STUDIES, study_named
    from robustbench_coded.training.progress import ProgressBar

    chosen = list(STUDIES.values()) if studies == ["all"] else [study_named(name) for name in studies]
    if values is not None and len(chosen) > 1:
        raise InputError("--values belongs to one study; name that one alone")
    given = {
        "test_data": test_data, "data_dir": data_dir, "epochs": epochs, "schedule": schedule,
        "batch_size": batch_size, "learning_rate": learning_rate, "weight_decay": weight_decay,
        "validation": validation, "precision": precision, "device": device, "seed": seed,
    }  # fmt: skip
    base = base_config(arch, data, **{name: value for name, value in given.items() if value is not None})
    settings = AblationSettings(
        base, seeds=seeds, limit=limit, draws=draws, eps=None if eps is None else radius(eps, "--eps")
    )
    listed = [part.strip() for part in values.split(",")] if values is not None else []
    planned = [(study, study.points(settings, listed)) for study in chosen]
    folder = out or Path("reports") / f"ablations-{_plain(data)}-{arch}"
    laboratory = Laboratory(folder, settings, lambda title: [ProgressBar(title)])
    made(folder)
    laboratory.study(planned)
    results = write_studies(laboratory, planned)
    if as_json:
        print(json.dumps({name: [_as_data(r) for r in found] for name, found in results.items()}))
        return 0
    from rich.console import Console

    from robustbench_coded.reports.render.terminal import PlainTable

    for study, _ in planned:
        clean = [r for r in results[study.name] if r.attack == "clean"]
        Console().print(PlainTable(f"{study.title}, unperturbed inputs", sheet_of(study, clean)))
    print(f"report: {folder / 'report.md'}")
    return 0


def _plain(data: str) -> str:
    """The data's name as a part of a folder's: ``npz:a/cifar10.npz`` is cifar10."""
    return Path(data.partition(":")[2] or data).stem


def _as_data(result: "Result") -> dict[str, Any]:
    return {
        "point": result.point.name,
        "inference": result.inference.name,
        "attack": result.attack,
        "figure": result.figure,
        "mean": result.mean,
        "deviation": result.deviation,
        "seeds": result.seeds,
        "diverged": result.diverged,
        "paper": result.paper,
    }
