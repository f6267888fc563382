"""``csrobust inspect``: what a checkpoint is, what was guessed about it and why."""

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect_command(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint file.")],
    arch: Annotated[
        str | None, typer.Option("--arch", help="Architecture, or package.module:function.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one machine-readable object.")] = False,
) -> int:
    """Say what a checkpoint is: architecture, classes, normalisation, what was guessed and why."""
    from robustbench_coded.models.inspect import describe
    from robustbench_coded.models.loading import load_checkpoint
    from robustbench_coded.reports.text.escape import one_line

    facts = describe(load_checkpoint(Path(checkpoint), arch=arch))
    if as_json:
        print(json.dumps(facts))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(one_line(f"{name:<{width}}  {_shown(value)}"))
    return 0


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_shown(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return "; ".join(_shown(v) for v in value) or "-"
    return "-" if value is None else str(value)
