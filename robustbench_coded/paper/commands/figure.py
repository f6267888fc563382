"""``csrobust paper figure``: the paper's figures from measurements of our own, as SVG and CSV."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from robustbench_coded.cli.parser import AsJson, Group, takes
from robustbench_coded.errors import InputError
from robustbench_coded.options.option import Option
from robustbench_coded.options.values import named_paths
from robustbench_coded.paper.commands.training_options import TRAINING, DataDir, FirstSeed, given, made

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_coded.models.pixel_model import PixelModel
    from robustbench_coded.paper.figures.written import PaperFigure

Out = Annotated[Path, Option("Folder for the SVG and the numbers.")]
Data = Annotated[str, Option("Images; auto: the data of the checkpoints.")]
FOLDER = Path("reports/paper-figures")


def spiral_command(
    out: Out = FOLDER,
    seeds: Annotated[int, Option("Networks per recipe.")] = 3,
    epochs: Annotated[int, Option("Passes over the points.")] = 300,
    seed: FirstSeed = 0,
    as_json: AsJson = False,
) -> int:
    """Figure 1b: decision boundaries of three trainings."""
    for option, value in (("--seeds", seeds), ("--epochs", epochs)):
        if value < 1:
            raise InputError(f"{option} {value} is too small; give 1 or more")
    from robustbench_coded.paper.figures.training import spiral

    made(out)
    return _write(spiral(seeds=seeds, epochs=epochs, seed=seed), out, as_json)


def lemma1_command(
    out: Out = FOLDER,
    ckpt: Annotated[list[str] | None, Option("Checkpoint, PATH or NAME=PATH; may be repeated.")] = None,
    data: Data = "auto",
    data_dir: DataDir = None,
    seed: FirstSeed = 0,
    as_json: AsJson = False,
) -> int:
    """Lemma 1: the error of coded smoothing over N.

    For two formulas and checkpoints, compared with N^-3.
    """
    from robustbench_coded.paper.figures.spline import BATCHES, K, lemma1

    made(out)
    networks = {}
    if ckpt:
        models, batches = _models(ckpt, data, data_dir, K, BATCHES)
        networks = {name: (model, batches) for name, model in models.items()}
    return _write(lemma1(networks, seed=seed), out, as_json)


@takes(
    *("arch", "data", "data_dir", "epochs", "schedule", "milestones", "precision", "device", "seed"),
    of=TRAINING,
)
def loss_command(
    *,
    out: Out = FOLDER,
    seeds: Annotated[int, Option("Runs per recipe.")] = 3,
    recipes: Annotated[str, Option("Recipes, comma-separated.")] = "erm,mixup,manifold-mixup,coded",
    as_json: AsJson = False,
    **training: Any,
) -> int:
    """Figure 5a: validation loss during training.

    Reuses runs that an ablation has written to --out.
    """
    from robustbench_coded.paper.ablations.run import Laboratory, run_id
    from robustbench_coded.paper.ablations.studies import STUDIES, AblationSettings, base_config
    from robustbench_coded.paper.figures.training import loss

    base = base_config(**given(training))
    settings = AblationSettings(base, seeds=seeds)
    points = STUDIES["recipe"].points(settings, [part.strip() for part in recipes.split(",")])
    laboratory = Laboratory(out, settings, quiet=False)
    made(out)
    configs = [config for point in points for config in laboratory.seeded(point)]
    for number, config in enumerate(configs, 1):
        if not laboratory.recorded(config):
            laboratory.train(config, f"run {number} of {len(configs)}")
    runs = {run_id(config) for config in configs}
    history = [row for row in laboratory.history.rows if row.run in runs]
    return _write(loss(history, where=f"{base.arch} on {base.data}"), out, as_json)


def _models(
    ckpt: list[str], data: str, data_dir: Path | None, k: int, batches: int
) -> tuple["dict[str, PixelModel]", "list[Tensor]"]:
    """The checkpoints as models, and batches of ``k`` test images that all of them take."""
    from robustbench_coded.data.registry import data_for, load_data
    from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
    from robustbench_coded.models.loading import check_data, load_checkpoint

    loaded = [load_checkpoint(path, name=name) for name, path in named_paths(ckpt, "--ckpt")]
    first = loaded[0]
    if data == "auto":
        data = data_for(first.metadata, first.classes, first.channels, first.image_size)
    images = load_data(data, data_dir=data_dir)
    if len(images) < k:
        raise InputError(f"{data} has {len(images)} images; a batch takes {k}")
    models = {}
    for checkpoint in loaded:
        check_data(checkpoint, images.image_shape, images.classes, images.name)
        x, y = images.batch(range(min(512, len(images))))
        models[checkpoint.name] = with_normalisation(checkpoint, x, y)
    starts = range(0, min(batches, len(images) // k) * k, k)
    return models, [images.batch(range(start, start + k))[0] for start in starts]


def _write(figure: "PaperFigure", out: Path, as_json: bool) -> int:
    from robustbench_coded.paper.figures.written import write_figure

    paths = [str(path) for path in write_figure(figure, out)]
    if as_json:
        print(json.dumps({"figure": figure.drawing.name, "files": paths}))
        return 0
    print(figure.drawing.caption)
    for path in paths:
        print(path)
    return 0


FIGURES = Group(
    "Draw a figure of the paper from measurements of our own.",
    {"spiral": spiral_command, "lemma1": lemma1_command, "loss": loss_command},
)
