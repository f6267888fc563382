"""``csrobust list``, ``inspect`` and ``probe``: what there is, what a checkpoint is, and what a defence does
whatever it says of itself.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins

from robustbench_coded.cli.options import SHARED, AsJson, DataDirText, config_from, takes_only
from robustbench_coded.cli.process import foreign_output
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.extensions import all_of
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.schema.manifest import ProbeRecord

if TYPE_CHECKING:
    from robustbench_coded.schema.manifest import RunManifest


KINDS = ("attacks", "models", "data", "defences", "checkpoints", "runs")


def list_command(
    kind: Annotated[str, typer.Argument(help="attacks, models, data, defences, checkpoints or runs.")] = "",
    folder: Annotated[
        Path | None, typer.Argument(help="For runs: a run folder or a folder of them; default: reports.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List the names accepted on the command line."""
    if folder is not None and kind != "runs":
        raise InputError(f"csrobust list {kind} takes no folder; csrobust list runs {folder} does")
    if not kind:
        table = {each: f"csrobust list {each}" for each in KINDS}
    else:
        table = run_names(folder or Path("reports")) if kind == "runs" else names(kind)
    width = max(map(len, table))
    lines = [one_line(f"{name:<{width}}  {description}") for name, description in table.items()]
    print(json.dumps(table) if as_json else "\n".join(lines))
    return 0


def run_names(folder: Path) -> dict[str, str]:
    """Path -> what was evaluated, of every run below a folder; what can't be read says why.

    Raises:
        InputError: there is none.
    """
    from robustbench_coded.judge.run import load_manifest
    from robustbench_coded.runs.folder import runs_below

    names = {}
    for path in runs_below(folder):
        try:
            names[str(path)] = _described(load_manifest(path))
        except InputError as error:
            names[str(path)] = str(error)
    return names


def _described(manifest: "RunManifest") -> str:
    """Day, state, data, checkpoints and defences of a run, in one line."""
    subjects = (record.case.subject for record in manifest.cases)
    behind = dict.fromkeys(s.defence if s.n is None else f"{s.defence} N={s.n}" for s in subjects)
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
        from attacks.presets import reference

        return reference()
    if kind == "models":
        from robustbench_coded.models.registry import MODELS

        return {name: entry.description for name, entry in MODELS.items()}
    if kind == "data":
        from robustbench_coded.data.registry import DATA

        return dict(DATA)
    if kind == "defences":
        from robustbench_coded.defences.options import DEFENCES

        brought = {
            name: defence.description if ":" in name else f"{plugin}: {defence.description}"
            for plugin, defences in all_of("defences").items()
            for name, defence in defences.items()
        }
        return {**DEFENCES, **brought}
    if kind == "checkpoints":
        from robustbench_coded.models.shipped import descriptions

        return descriptions()
    raise InputError(
        f"there is no list of {kind!r}; {did_you_mean(kind, KINDS)}choose from {', '.join(KINDS)}"
    )


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
    from robustbench_coded.models.shipped import present

    present(checkpoint)  # before torch is imported, which takes seconds
    from robustbench_coded.data.registry import load_data
    from robustbench_coded.evaluation.setup.checkpoints import describe, recognised_by
    from robustbench_coded.models.loading import load_checkpoint

    with foreign_output():
        shape = None if data in (None, "auto") else load_data(data, data_dir=data_dir).image_shape
        loaded = load_checkpoint(checkpoint, arch=arch, normalize=normalize, image_shape=shape)
        recognition = None if data is None else recognised_by(loaded, data, data_dir)
        facts = describe(loaded, recognition)
    if as_json:
        print(json.dumps(facts))
    else:
        noted = ("recognition", "class_source")  # in the notes
        shown = {name: value for name, value in facts.items() if name not in noted}
        width = max(map(len, shown))
        for name, value in shown.items():
            print(one_line(f"{name:<{width}}  {_shown(value)}"))
    if recognition is not None and recognition.refusal:
        raise recognition.refused(loaded)
    return 0


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_shown(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return "; ".join(_shown(v) for v in value) or "-"
    return "-" if value is None else str(value)


OPTIONS = (
    "ckpt", "rci", "coded", "defence", "standard", "data", "data_dir", "limit", "first", "batch_size",
    "seed", "arch", "normalize", "device", "threads", "as_json",
)  # fmt: skip


@takes_only(*OPTIONS)
def probe_command(*, as_json: bool, **options: Any) -> int:
    """Measure whether defences are random or batch-dependent.

    Also measures whether their gradients are usable. The exit code is 1 if a defence contradicts its
    declaration.
    """
    from attacks.presets import ONE_STEP
    from robustbench_coded.evaluation.setup.brought import with_zoo
    from robustbench_coded.evaluation.setup.prepare import prepare

    rest = {name: default for name, (_, default) in SHARED.items() if name not in OPTIONS}
    for name in ("quiet", "as_json"):
        rest.pop(name, None)
    with foreign_output():
        config, in_memory = with_zoo(config_from(**{**rest, **options, "attacks": [ONE_STEP]}))
        probes = prepare(config, in_memory, refuse=False).probes
    if as_json:
        print(json.dumps(to_builtins(probes)))
    else:
        for probe in probes:
            _show(probe)
    return 1 if any(probe.contradictions for probe in probes) else 0


def _show(probe: ProbeRecord) -> None:
    subject = probe.subject
    sizes = (("K", subject.k), ("N", subject.n))
    named = "".join(f" {name}={size}" for name, size in sizes if size is not None)
    print(one_line(f"{subject.defence}{named} on {subject.checkpoint}"))
    for name, finding in _findings(probe.figures, probe.gradients):
        print(f"  {name:<16} {finding}")
    for text in probe.contradictions:
        print(f"  contradiction: it {text}")
    for text in probe.warnings:
        print(f"  warning: {text}")


def _findings(figures: dict[str, Any], gradients: dict[str, float]) -> Iterator[tuple[str, str]]:
    """The figures that decide, in words; --json has them all."""
    if figures["unanswered"] == 1:
        yield "logits", "NaN or infinite; nothing else was measured"
        return
    yield "same draw", _moved(figures["same_draw"], "the same input again")
    yield "other draws", _moved(figures["other_draws"], "another draw")
    by = figures["co_batched_by"]
    yield (
        "co-batched",
        _moved(figures["co_batched"], f"one co-batched input {by}" if by else "co-batched inputs"),
    )
    agreement = ""
    if "cosine" in gradients:
        agreement = f"; of two draws: cosine {gradients['cosine']:.2f}, equal signs {gradients['sign']:.0%}"
    yield "gradients", f"zero at {gradients['zero_share']:.0%} of inputs{agreement}"


def _moved(change: float, what: str) -> str:
    return f"{what} moved no logit" if change == 0 else f"{what} moved logits by up to {change:.2g}"
