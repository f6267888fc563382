"""``csrobust inspect``: what a checkpoint is, what was guessed about it and why."""

import json
from typing import Annotated

import typer

from robustbench_coded.cli.common_options import AsJson, DataDirText
from robustbench_coded.cli.foreign_output import foreign_output


def inspect_command(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint file, or FILE#ENTRY for one of several networks in it.")
    ],
    arch: Annotated[
        str | None, typer.Option("--arch", help="Architecture, or package.module:function.")
    ] = None,
    normalize: Annotated[str | None, typer.Option("--normalize", help="Normalisation to assume.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Data to recognise the network with: auto, or any value of `eval --data`."
        ),
    ] = None,
    data_dir: DataDirText = None,
    as_json: AsJson = False,
) -> int:
    """Describe a checkpoint and how it was recognised.

    Architecture, classes, normalisation, and the evidence for each. With --data,
    exit code 2 if an evaluation on these data would refuse it.
    """
    from robustbench_coded.errors import InputError
    from robustbench_coded.models.shipped import present

    present(checkpoint)  # before torch is imported, which takes seconds
    from robustbench_coded.evaluation.setup.checkpoints import recognised_by
    from robustbench_coded.models.checkpoint import Checkpoint
    from robustbench_coded.models.inspect import describe
    from robustbench_coded.models.loading import load_checkpoint
    from robustbench_coded.reports.text.escape import one_line

    def load(path: str, variant: str) -> Checkpoint:
        return load_checkpoint(path, arch=variant or arch, normalize=normalize)

    with foreign_output():
        loaded, recognition, which = load(checkpoint, ""), None, ""
        if data is not None:
            chosen = recognised_by(loaded, data, data_dir, load)
            loaded, recognition, which = chosen.checkpoint, chosen.recognition, chosen.sentence
        facts = describe(loaded, recognition)
    facts["notes"] += [which] if which else []
    if as_json:
        print(json.dumps(facts))
    else:
        shown = {name: value for name, value in facts.items() if name != "recognition"}  # the notes say it
        width = max(map(len, shown))
        for name, value in shown.items():
            print(one_line(f"{name:<{width}}  {_shown(value)}"))
    if recognition is not None and recognition.refusal:
        raise InputError(f"{loaded.path}: {recognition.refusal}")
    return 0


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_shown(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return "; ".join(_shown(v) for v in value) or "-"
    return "-" if value is None else str(value)
