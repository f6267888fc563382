"""``csrobust list`` and ``inspect``: what there is, what a checkpoint is, and what a defence does whatever it
says of itself.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import to_builtins

from robustbench_coded.cli.parser import AsJson, config_from, examples, takes
from robustbench_coded.cli.process import foreign_output
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.extensions import all_of
from robustbench_coded.options.option import Option
from robustbench_coded.options.values import named_paths
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.schema.manifest import ProbeRecord

if TYPE_CHECKING:
    from robustbench_coded.schema.manifest import RunManifest


KINDS = ("attacks", "models", "data", "defences", "checkpoints", "runs")


@examples("csrobust list attacks", "csrobust list checkpoints", "csrobust list runs runs/mine")
def list_command(
    kind: Annotated[
        str, Option("attacks, models, data, defences, checkpoints or runs.", positional=True)
    ] = "",
    folder: Annotated[
        Path | None, Option("For runs: a run folder or a folder of them; default: runs.", positional=True)
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List the names accepted on the command line."""
    if folder is not None and kind != "runs":
        raise InputError(f"csrobust list {kind} takes no folder; csrobust list runs {folder} does")
    if not kind:
        table = {each: f"csrobust list {each}" for each in KINDS}
    else:
        table = run_names(folder or Path("runs")) if kind == "runs" else names(kind)
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


PROBED = ("rci", "coded", "defence", "standard", "batch_size", "limit", "first", "seed", "device", "threads")
Checkpoint = Annotated[
    str | None,
    Option(
        "Checkpoint, PATH or NAME=PATH, or FILE#ENTRY for one of several networks in it.", positional=True
    ),
]
Recognised = Annotated[
    str | None, Option("Data to recognise the network with: auto, or any value of `eval --data`.")
]


@examples("csrobust inspect model.pt", "csrobust inspect model.pt --defence my_defence:build")
@takes("arch", "normalize", "data_dir", *PROBED)
def inspect_command(
    checkpoint: Checkpoint = None, *, data: Recognised = None, as_json: AsJson = False, **options: Any
) -> int:
    """Describe a checkpoint and how it was recognised, or what a defence does.

    Architecture, classes, normalisation, and the evidence for each. With --data, exit code 2 if an evaluation
    on these data would refuse it. With --defence, --rci or --coded, measures whether the defence is random or
    depends on the batch, and whether its gradients are usable; exit code 1 if it contradicts its declaration.
    """
    if options["rci"] or options["coded"] or options["defence"]:
        paths = () if checkpoint is None else named_paths([checkpoint], "CHECKPOINT")
        return _probe(as_json=as_json, checkpoints=paths, data=data or "auto", **options)
    if checkpoint is None:
        raise InputError("Missing argument 'checkpoint'; `csrobust inspect --help` says what it takes")
    return _describe(checkpoint, options, data, as_json=as_json)


def _describe(checkpoint: str, options: dict[str, Any], data: str | None, *, as_json: bool) -> int:
    data_dir = options["data_dir"]
    from robustbench_coded.models.shipped import present

    present(checkpoint)  # before torch is imported, which takes seconds
    from robustbench_coded.data.registry import load_data
    from robustbench_coded.evaluation.setup.checkpoints import describe, recognised_by
    from robustbench_coded.models.loading import load_checkpoint

    with foreign_output():
        shape = None if data in (None, "auto") else load_data(data, data_dir=data_dir).image_shape
        loaded = load_checkpoint(
            checkpoint, arch=options["arch"], normalize=options["normalize"], image_shape=shape
        )
        recognition = None if data is None else recognised_by(loaded, data, data_dir)
        facts = describe(loaded, recognition)
    if as_json:
        print(json.dumps(facts))
    else:
        shown = {name: value for name, value in facts.items() if name != "recognition"}  # in the notes
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


def _probe(*, as_json: bool, **options: Any) -> int:
    from attacks.presets import ONE_STEP
    from robustbench_coded.evaluation.setup.checkpoints import with_zoo
    from robustbench_coded.evaluation.setup.prepare import prepare

    with foreign_output():
        config, in_memory = with_zoo(config_from(**options, attacks=(ONE_STEP,)))
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
