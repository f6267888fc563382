"""run.json: what may not change within a run, what was planned, and on what it ran."""

import datetime
import functools
import platform
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from msgspec import convert
from msgspec.structs import replace

from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan, stopped
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.reports.text.formatting import pixels, subject_text
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.evaluated import CheckpointFacts, MatchedBaseline
from robustbench_coded.schema.invocation import GitState, Invocation, Machine
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.planned_case import PlannedCase, UnitEntry
from robustbench_coded.session.attack_code import VERSION, attack_code
from robustbench_coded.version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow", "safetensors", "scikit-learn")
# What may not change within a run folder, and the option that says it.
IDENTITY = {
    "data": "--data",
    "limit": "--limit",
    "seed": "--seed",
    "last_batch": "--last-batch",
    "subset": "--first",
    "data_sha256": "--data",
}
_OTHER_EXAMPLES = {
    True: "the first examples, not random ones; give --first to go on there, another --out, or start anew "
    "with --overwrite",
    False: "random examples, not the first ones; leave out --first to go on there, give another --out, or "
    "start anew with --overwrite",
}


def new_manifest(config: EvalConfig, prepared: PreparedEvaluation, plan: Plan) -> RunManifest:
    """The manifest of this evaluation alone."""
    units: dict[AttackCase, list[UnitEntry]] = {case: [] for case in plan.rows}
    for unit in plan.units:
        units[unit.row].append(UnitEntry(unit.id, unit.replicate))
    invocation = Invocation(
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=config.command,
        options=config.as_data(),
        resolved=prepared.resolved,
        versions=dict(_versions()),
        git=_git(),
        machine=_machine(prepared.setup.device),
    )
    return RunManifest(
        identity=prepared.identity,
        data=prepared.data_facts,
        checkpoints=tuple(convert(c.facts, CheckpointFacts) for c in prepared.setup.checkpoints),
        rows=tuple(_planned_case(config, prepared, case, units[case]) for case in plan.rows),
        probes=prepared.probes,
        matched=tuple(
            MatchedBaseline(**asdict(match), defence=parse_defence(match.spec).label)
            for match in prepared.matched
        ),
        notes=plan.notes,
        invocations=(invocation,),
        sequential=None if prepared.rounds is None else prepared.rounds.record,
    )


def checked_against(old: RunManifest, new: RunManifest, path: Path) -> None:
    """Refuses to go on in a folder that was made with something else.

    Raises:
        InputError: other data, limit, seed or last-batch rule, or other weights under a known name.
    """
    for key, option in IDENTITY.items():
        before, now = getattr(old.identity, key), getattr(new.identity, key)
        if before != now and key == "subset":
            raise InputError(f"{path} was made with {_OTHER_EXAMPLES[before is None]}")
        if before != now:
            before, now = ("all examples" if x is None else x for x in (before, now))
            what = f"{option} {before}" if key != "data_sha256" else "other images behind --data"
            given = f"{now}" if key != "data_sha256" else "these"
            raise InputError(
                f"{path} was made with {what}, not {given}; "
                "give another --out, or start anew with --overwrite"
            )
    for checkpoint in new.checkpoints:
        known = old.checkpoint(checkpoint.name)
        if known is not None and known.sha256 != checkpoint.sha256:
            raise InputError(
                f"{path} knows other weights under the name {checkpoint.name!r}; "
                "name these otherwise (--ckpt NAME=PATH), or start anew with --overwrite"
            )


def extended(old: RunManifest | None, new: RunManifest) -> RunManifest:
    """The manifest of a folder after another evaluation in it: rows and checkpoints of both."""
    if old is None:
        return new
    before = {case.key: case for case in old.rows}
    now = {case.key: _with_partitions(case, before.get(case.key)) for case in new.rows}
    # Rounds are decided again: what checks asked for comes behind them, as if nothing had been interrupted.
    order = (*now, *before) if new.sequential is not None else (*before, *now)
    rows = before | now
    return replace(
        new,
        rows=tuple(rows[key] for key in dict.fromkeys(order)),
        checkpoints=tuple(({c.name: c for c in (*old.checkpoints, *new.checkpoints)}).values()),
        probes=tuple(({probe.subject: probe for probe in (*old.probes, *new.probes)}).values()),
        matched=(*(m for m in old.matched if m not in new.matched), *new.matched),
        notes=tuple(dict.fromkeys([*old.notes, *new.notes])),
        invocations=(*old.invocations, *new.invocations),
        sequential=new.sequential or old.sequential,
    )


def checked_rounds(old: RunManifest, planned: Collection[CaseKey], path: Path) -> None:
    """Refuses to leave out what earlier rounds were about: they are decided again, all together.

    Args:
        planned: what this evaluation may run, in rounds.

    Raises:
        InputError: the folder has rounds of a subject, budget or threat model that is not planned.
    """
    again = {key.setting for key in planned}
    # What checks asked for, at an eps or under a threat model of their own, no command needs to name.
    attacks = {name for command in old.invocations for name in command.attacks}
    asked = [row.key for row in old.rows if row.looks and not row.for_check and row.attack in attacks]
    left_out = [key for key in asked if key.setting not in again]
    if left_out:
        key = left_out[0]
        raise InputError(
            f"{path} was made with --until, among others for {subject_text(key.subject, with_k=True)} under "
            f"{key.threat} at eps {pixels(key.eps)}, which this command leaves out; name everything that is "
            "in there as well, or give another --out"
        )


def without_rounds(old: RunManifest, planned: Collection[CaseKey]) -> RunManifest:
    """The manifest without the rows of rounds: an evaluation in rounds decides again, by what it has then.

    Args:
        planned: what it may run.
    """
    rows = (replace(row, partitions=()) for row in old.rows if not row.looks and row.key not in planned)
    return replace(old, rows=tuple(rows), sequential=None)


def with_partitions(manifest: RunManifest, units: Sequence[Unit]) -> RunManifest:
    """The manifest with these units, which score rows of it in random partitions."""
    of_row: dict[CaseKey, list[UnitEntry]] = {}
    for unit in units:
        of_row.setdefault(unit.row.key, []).append(UnitEntry(unit.id, unit.replicate))
    rows = (replace(row, partitions=tuple(of_row.get(row.key, row.partitions))) for row in manifest.rows)
    return replace(manifest, rows=tuple(rows))


def _with_partitions(case: PlannedCase, before: PlannedCase | None) -> PlannedCase:
    """A planned row with the partitions that it was scored in before, as long as its inputs are the same."""
    same = before is not None and case.units == before.units and not case.partitions
    return replace(case, partitions=before.partitions) if before is not None and same else case


def _planned_case(
    config: EvalConfig, prepared: PreparedEvaluation, case: AttackCase, units: list[UnitEntry]
) -> PlannedCase:
    subject = case.subject
    return PlannedCase(
        **case.key.as_columns(),  # type: ignore[arg-type]
        spec=subject.spec,
        batch_size=subject.k,
        randomised=subject.randomised,
        batch_dependent=subject.batch_dependent,
        has_base=subject.has_base,
        for_check=case.for_check,
        examples_planned=prepared.examples_planned(config, case),
        draws=_draws(config, case),
        budget=None if case.attack in CONTROLS else config.budget,
        stopped=stopped(config, case),
        looks=0 if prepared.rounds is None else prepared.rounds.looks(case),
        units=tuple(units),
    )


def _draws(config: EvalConfig, case: AttackCase) -> int:
    if not case.subject.randomised:
        return 1
    return min(config.aware_attacks, config.draws) if case.threat.draw_known else config.draws


# Both are read once a process: the code that is loaded does not change, and a run asks several times.
@functools.cache
def _versions() -> dict[str, str]:
    found = {"csrobust": __version__, VERSION: attack_code(), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def _git() -> GitState:
    """The checkout that this code runs from, if it does."""
    folder = str(Path(__file__).parent)
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", folder, *command], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return GitState()
    return GitState(commit=commit, dirty=bool(changes))


def _machine(device: str) -> Machine:
    gpu = None
    if device.startswith("cuda"):
        import torch

        gpu = torch.cuda.get_device_name(torch.device(device))
    return Machine(system=platform.system(), processor=platform.machine(), device=device, gpu=gpu)
