"""``csrobust train``: the paper's training recipes, to checkpoints that load without options."""

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

from robustbench_coded.cli.parser import AsJson, examples
from robustbench_coded.cli.process import foreign_output
from robustbench_coded.errors import InputError
from robustbench_coded.options.option import Option, check_value, count

# Fields of `TrainConfig` and options of the recipe; docs/paper.md has all of them.
Settings = Annotated[
    list[str] | None,
    Option(
        "Setting of the training or of its recipe, KEY=VALUE, repeated: arch=digits-cnn, data=digits, "
        "epochs=30, schedule=paper, batch_size=128, learning_rate=0.1, seed=0, device=cpu, mu=0.5, "
        "blocks=0,1 ...; -o for short.",
        word="option",
    ),
]


@examples(
    "csrobust train --recipe coded -o arch=digits-cnn -o data=digits --out coded.safetensors",
    "csrobust train --recipe recipes/cifar10-coded.toml -o epochs=30 -o mu=0.4 --out coded.safetensors",
)
def train_command(
    *,
    recipe: Annotated[str, Option("erm, mixup, manifold-mixup, coded, pgd-at, trades, or a .toml file.")],
    out: Annotated[Path, Option("Checkpoint to write, FILE.safetensors.")],
    option: Settings = None,
    seeds: Annotated[int, Option("Runs; several write FILE-seed0.safetensors ...")] = 1,
    as_json: AsJson = False,
) -> int:
    """Train a checkpoint.

    The same command resumes a stopped training. A checkpoint made with other settings is never overwritten.
    """
    from robustbench_coded.paper.training.config import read_recipe, settings_of
    from robustbench_coded.paper.training.loop import train_seeds

    check_value("--seeds", seeds, count())
    config = read_recipe(recipe, **settings_of(option or ()))
    made(out.parent)
    with foreign_output():
        runs = train_seeds(config, out, seeds, quiet=False)
    accuracies = [run.test.accuracy for run in runs]
    mean, deviation = fmean(accuracies), stdev(accuracies) if seeds > 1 else None
    if as_json:
        rows = [{"checkpoint": str(r.checkpoint), "seed": r.seed, "accuracy": r.test.accuracy} for r in runs]
        print(json.dumps({"runs": rows, "mean": mean, "deviation": deviation}))
        return 0
    for run in runs:
        behind = ""
        if config.defence is not None:
            from robustbench_coded.models.loading import load_checkpoint

            defended = 100 * load_checkpoint(run.checkpoint).metadata["defended_accuracy"]
            behind = f" without its defence, {defended:.2f}% behind {config.defence}"
        print(f"{run.checkpoint}: {100 * run.test.accuracy:.2f}% of the test images{behind}")
    if deviation is not None:
        print(f"mean {100 * mean:.2f}%, deviation {100 * deviation:.2f} over {seeds} seeds")
    return 0


def made(folder: Path) -> None:
    """Makes a folder: hours of work are not to end at one that can't be written.

    Raises:
        InputError: it is a file, or the system refuses it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"--out: {folder} is a file; give a folder") from error
    except OSError as error:
        raise InputError(f"--out: {folder} can't be written ({error.strerror}); give another") from error
