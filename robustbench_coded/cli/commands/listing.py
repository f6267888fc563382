"""``csrobust list attacks|models|data|defences|checkpoints``: plain lines, one uncut name first."""

from typing import Annotated

import typer

from robustbench_coded.errors import InputError, did_you_mean

KINDS = ("attacks", "models", "data", "defences", "checkpoints")


def list_command(
    kind: Annotated[str, typer.Argument(help="attacks, models, data, defences or checkpoints.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one machine-readable object.")] = False,
) -> int:
    """List what can be named on the command line."""
    table = names(kind)
    if as_json:
        import json

        print(json.dumps(table))
        return 0
    width = max(map(len, table))
    for name, description in table.items():
        print(f"{name:<{width}}  {description}")
    return 0


def names(kind: str) -> dict[str, str]:
    """Name -> description of everything of one kind; nothing here imports torch.

    Raises:
        InputError: an unknown kind.
    """
    if kind == "attacks":
        from attacks.naming import LISTED, PRESETS

        presets = {name: "preset: " + ", ".join(members) for name, members in PRESETS.items()}
        return {**LISTED, **presets}
    if kind == "models":
        from robustbench_coded.models.registry import MODELS

        return {name: entry.description for name, entry in MODELS.items()}
    if kind == "data":
        from robustbench_coded.data.registry import DATA

        return dict(DATA)
    if kind == "defences":
        from robustbench_coded.defences.options import DEFENCES
        from robustbench_coded.zoo.registry import ZOO

        return {**DEFENCES, **{name: f"zoo: {entry.description}" for name, entry in ZOO.items()}}
    if kind == "checkpoints":
        from robustbench_coded.models.shipped import descriptions

        return descriptions()
    raise InputError(
        f"there is no list of {kind!r}; {did_you_mean(kind, KINDS)}choose from {', '.join(KINDS)}"
    )
