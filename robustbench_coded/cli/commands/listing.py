"""``csrobust list attacks|models|data|defences|checkpoints|runs``: plain lines, one uncut name first."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_coded.cli.common_options import AsJson
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.reports.text.escape import one_line

if TYPE_CHECKING:
    from robustbench_coded.schema.manifest import RunManifest

KINDS = ("attacks", "models", "data", "defences", "checkpoints", "runs")


def list_command(
    kind: Annotated[str, typer.Argument(help="attacks, models, data, defences, checkpoints or runs.")],
    folder: Annotated[
        Path | None, typer.Argument(help="For runs: a run folder or a folder of them; default: reports.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List the names accepted on the command line."""
    if folder is not None and kind != "runs":
        raise InputError(f"csrobust list {kind} takes no folder; csrobust list runs {folder} does")
    table = run_names(folder or Path("reports")) if kind == "runs" else names(kind)
    if as_json:
        import json

        print(json.dumps(table))
        return 0
    width = max(map(len, table))
    for name, description in table.items():
        print(one_line(f"{name:<{width}}  {description}"))
    return 0


def run_names(folder: Path) -> dict[str, str]:
    """Path -> what was evaluated, of every run below a folder; what can't be read says why.

    Raises:
        InputError: there is none.
    """
    from robustbench_coded.results.manifest import load_manifest
    from robustbench_coded.runs.folder import runs_below

    found = {}
    for path in runs_below(folder):
        try:
            found[str(path)] = _described(load_manifest(path))
        except InputError as error:
            found[str(path)] = str(error)
    return found


def _described(manifest: "RunManifest") -> str:
    """Day, state, data, checkpoints and defences of a run, in one line."""
    named = ((row.defence, "" if row.n is None else f" N={row.n}") for row in manifest.rows)
    behind = dict.fromkeys(map("".join, named))
    parts = (
        manifest.last.time[:10] or "no date",
        "finished" if manifest.finished else "not finished",
        f"{manifest.data.examples} examples of {manifest.data.name}",
        ", ".join(checkpoint.name for checkpoint in manifest.checkpoints) or "its own networks",
        ", ".join(behind),
    )
    return " | ".join(parts)


def names(kind: str) -> dict[str, str]:
    """Name -> description of everything of one kind; nothing here imports torch.

    Raises:
        InputError: an unknown kind.
    """
    if kind == "attacks":
        from attacks.listed import LISTED
        from attacks.presets import PRESETS

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
        from robustbench_coded.defences.published.registry import PREFIX, PUBLISHED
        from robustbench_coded.zoo.registry import ZOO

        published = {PREFIX + name: found.description for name, found in PUBLISHED.items()}
        return {**DEFENCES, **published, **{name: f"zoo: {entry.description}" for name, entry in ZOO.items()}}
    if kind == "checkpoints":
        from robustbench_coded.models.shipped import descriptions

        return descriptions()
    raise InputError(
        f"there is no list of {kind!r}; {did_you_mean(kind, KINDS)}choose from {', '.join(KINDS)}"
    )
