"""``csrobust train``: the paper's training recipes, to checkpoints that load without options."""

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

from robustbench_coded.cli.parser import AsJson, examples, takes
from robustbench_coded.cli.process import foreign_output
from robustbench_coded.errors import InputError
from robustbench_coded.options.option import Option
from robustbench_coded.paper.commands.training_options import TRAINING, given, made


@examples("csrobust train --recipe coded --arch digits-cnn --data digits --out coded.safetensors")
@takes(of=TRAINING)
def train_command(
    *,
    recipe: Annotated[str, Option("erm, mixup, manifold-mixup, coded, pgd-at, trades, or a .toml file.")],
    out: Annotated[Path, Option("Checkpoint to write, FILE.safetensors.")],
    blocks: Annotated[str | None, Option("Blocks on the coded path: 0,1,2; default: all.")] = None,
    seeds: Annotated[int, Option("Runs; several write FILE-seed0.safetensors ...")] = 1,
    options: Annotated[
        list[str] | None,
        Option("Option of the recipe: mu=0.5, n_end=1.5, blocks=0+1, alpha=1, eps=0.2 ...", word="option"),
    ] = None,
    as_json: AsJson = False,
    **training: Any,
) -> int:
    """Train a checkpoint.

    The same command resumes a stopped training. A checkpoint made with other settings is never overwritten.
    """
    from robustbench_coded.paper.training.listener import ProgressBar
    from robustbench_coded.paper.training.loop import SeededRun, train, train_seeds
    from robustbench_coded.paper.training.save import score_if_done

    if seeds < 1:
        raise InputError(f"--seeds {seeds} is too small; give 1 or more")
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out}: a checkpoint is written as .safetensors; end the name so")
    if blocks is not None:
        options = [*(options or []), f"blocks={blocks.replace(',', '+')}"]
    config = _config(recipe, training, options or [])

    made(out.parent)

    with foreign_output():
        if seeds == 1:
            score = score_if_done(out, config) or train(config, out, bar=ProgressBar(out.stem)).test
            done = [SeededRun(out, config.seed, score)]
        else:
            done = train_seeds(config, out, seeds, quiet=False)
    accuracies = [run.test.accuracy for run in done]
    mean, deviation = fmean(accuracies), stdev(accuracies) if seeds > 1 else None
    if as_json:
        runs = [
            {"checkpoint": str(run.checkpoint), "seed": run.seed, "accuracy": run.test.accuracy}
            for run in done
        ]
        print(json.dumps({"runs": runs, "mean": mean, "deviation": deviation}))
        return 0
    for run in done:
        print(f"{run.checkpoint}: {100 * run.test.accuracy:.2f}% of the test images{_behind(run, config)}")
    if deviation is not None:
        print(f"mean {100 * mean:.2f}%, deviation {100 * deviation:.2f} over {seeds} seeds")
    return 0


def _behind(run: Any, config: Any) -> str:
    """The accuracy behind the defence of the training, where there is one."""
    from robustbench_coded.models.loading import load_checkpoint

    if config.defence is None:
        return ""
    accuracy = load_checkpoint(run.checkpoint).metadata["defended_accuracy"]
    return f" without its defence, {100 * accuracy:.2f}% behind {config.defence}"


def _config(recipe: str, training: dict[str, Any], options: list[str]) -> Any:
    """The run of a recipe file, or of a recipe's name and options."""
    from robustbench_coded.paper.training.config import TrainConfig, read_recipe
    from robustbench_coded.paper.training.recipes import build_recipe

    if recipe.endswith(".toml"):
        if options:
            name = options[-1].partition("=")[0]
            raise InputError(f"{recipe} has its own {name}; edit the file, or give a recipe's name")
        return read_recipe(Path(recipe), **{k: v for k, v in training.items() if v is not None})
    return TrainConfig(recipe=build_recipe(recipe, dict(map(_option, options))), **given(training))


def _option(text: str) -> tuple[str, Any]:
    """``mu=0.5`` as a name and a value."""
    name, separator, value = text.partition("=")
    if not separator or not value:
        raise InputError(f"--option {text!r} is not NAME=VALUE; write mu=0.5")
    if name == "blocks":
        if not all(part.isdecimal() for part in value.split("+")):
            raise InputError(f"{text!r}: write block numbers as --blocks 0,1,2")
        return name, tuple(int(part) for part in value.split("+"))
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
