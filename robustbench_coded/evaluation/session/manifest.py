"""run.json of an evaluation, and the parts of earlier ones in the same folder that it keeps."""

import datetime
import functools
import hashlib
import platform
import subprocess
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import torch
from msgspec import convert
from msgspec.structs import replace

import attacks
from attacks.accelerator import device_name
from attacks.attack import PREFIX
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint
from robustbench_coded.evaluation.planning.cases import PlannedCase, code_names
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.runs.log import read_log
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import (
    CaseRecord,
    CheckpointFacts,
    CodeFacts,
    GitState,
    Identity,
    Invocation,
    Machine,
    NotRun,
    RunManifest,
)
from robustbench_coded.version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow", "safetensors")
# What may not change within a run folder, and the option that says it, if there is one.
IDENTITY = {
    "data": "--data",
    "limit": "--limit",
    "seed": "--seed",
    "state": "--state",
    "subset": "--first",
    "data_sha256": "--data",
    "csrobust": "",
}


def new_manifest(
    prepared: PreparedEvaluation,
    plan: Plan,
    *,
    sizes: Mapping[PlannedCase, int] = MappingProxyType({}),
    looks: Mapping[PlannedCase, int] = MappingProxyType({}),
) -> RunManifest:
    """The manifest of this evaluation alone.

    Args:
        sizes: the examples that a record runs on; all for records that are not named.
        looks: by what the error of verdicts that rest on a record is divided; 0 for those that are not named.
    """
    units: dict[PlannedCase, list[str]] = {case: [] for case in plan.cases}
    random: dict[PlannedCase, list[str]] = {case: [] for case in plan.cases}
    for unit in plan.units:
        (random if unit.random_batches else units)[unit.case].append(unit.id)
    options = prepared.setup.options
    records = []
    for case in plan.cases:
        subject = case.subject
        draws = options.known_draws if case.threat.draw_known else options.draws
        record = CaseRecord(
            case=case.case,
            spec=subject.spec,
            batch_size=subject.k,
            sequence=subject.sequence,
            randomised=subject.randomised,
            batch_dependent=subject.batch_dependent,
            has_base=subject.has_base,
            examples_planned=prepared.examples_planned(case, sizes.get(case)),
            draws=draws if subject.randomised else 1,
            looks=looks.get(case, 0),
            units=tuple(units[case]),
            random_batches=tuple(random[case]),
        )
        records.append(record)
    return RunManifest(
        identity=prepared.identity,
        data=prepared.data_facts,
        checkpoints=tuple(convert(c.facts, CheckpointFacts) for c in prepared.setup.checkpoints),
        cases=tuple(records),
        probes=prepared.probes,
        code=dict(prepared.code),
        notes=(*prepared.notes, *(note for note in plan.notes if isinstance(note, str))),
        not_run=tuple(note for note in plan.notes if isinstance(note, NotRun)),
        invocations=(_invocation(prepared),),
    )


def _invocation(prepared: PreparedEvaluation) -> Invocation:
    """The command, now and on this machine."""
    device = prepared.setup.device
    return Invocation(
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=prepared.config.command,
        options=prepared.config.as_data(),
        resolved=prepared.resolved,
        versions=dict(_versions()),
        git=git_state(),
        machine=Machine(
            system=platform.system(),
            processor=platform.machine(),
            device=device,
            gpu=None if device == "cpu" else device_name(torch.device(device)),
        ),
    )


def checked_against(
    old: RunManifest, identity: Identity, checkpoints: Sequence[LoadedCheckpoint], path: Path
) -> None:
    """Refuses to go on in a folder that was made with something else.

    Raises:
        InputError: other data, limit or seed, or other weights under a known name.
    """
    for key, option in IDENTITY.items():
        before, now = getattr(old.identity, key), getattr(identity, key)
        if before == now:
            continue
        if key == "data_sha256":
            made = "with other images behind --data"
        elif key == "csrobust":
            made = f"by other code of csrobust ({before or 'not recorded'}, now {now})"
        elif key == "subset":
            made = f"with{'' if before is None else 'out'} --first"
        else:
            made = f"without {option}" if before is None else f"with {option} {before}"
            made += "" if now is None or before is None else f", not {now}"
        raise InputError(f"{path} was made {made}; give another --out, or start again with --overwrite")
    for checkpoint in checkpoints:
        known = old.checkpoint(checkpoint.name)
        if known is not None and known.sha256 != checkpoint.sha256 and (checkpoint.path or known.path):
            raise InputError(
                f"{path} knows other weights under the name {checkpoint.name!r}; "
                "name these otherwise (--ckpt NAME=PATH), or start again with --overwrite"
            )


def code_going_on(
    old: RunManifest, code: Mapping[str, CodeFacts], path: Path, *, stopped: bool
) -> tuple[dict[str, CodeFacts], list[str]]:
    """The code whose outcomes in the folder are taken over, new code as it is; and a sentence on each that
    can't be compared.

    Args:
        stopped: whether this is the command of ``old``, which has not come to its end.

    Raises:
        InputError: the folder has outcomes of other code under a known name.
    """
    codes, remarks = {}, []
    for name, now in code.items():
        before = old.code.get(name, now)
        parts = [
            part
            for part in {**before.parts, **now.parts}
            if now.parts.get(part) not in (before.parts.get(part), before.after.get(part, ""))
        ]
        if parts and any(name in _code_names(record) for record in _that_ran(old, path)):
            more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
            raise InputError(
                f"{path} was made with a different version of {name} "
                f"(changed: {', '.join(parts[:3])}{more}); "
                "give another --out, or start again with --overwrite"
            )
        codes[name] = now if parts or (now.unknown and not stopped) else before
        if now.unknown:
            done = "what that computed was taken over" if stopped else "all was computed anew"
            remarks.append(
                f"The code of {name} was not compared with that of the last command, and {done}: "
                f"{now.unknown}."
            )
    return codes, remarks


def _that_ran(old: RunManifest, path: Path) -> list[CaseRecord]:
    """The cases that the folder holds outcomes of, and not failures alone."""
    done = read_log(path).done.keys()
    return [record for record in old.cases if not done.isdisjoint(record.all_units)]


def with_all_kept(old: RunManifest, path: Path) -> RunManifest:
    """The manifest as a further command finds it: whatever has outcomes stays in the table."""
    ran = {record.case for record in _that_ran(old, path)}
    cases = (replace(r, kept=r.examples_planned) if r.case in ran else r for r in old.cases)
    return replace(old, cases=tuple(cases))


def _code_names(record: CaseRecord) -> tuple[str, ...]:
    return code_names(record.case.subject.checkpoint, record.spec, record.case.attack)


def with_earlier(new: RunManifest, old: RunManifest, committed: Collection[str]) -> RunManifest:
    """An evaluation's manifest with the cases that earlier ones left in its folder and that have outcomes.

    A case of both has the examples of the earlier evaluation where that finished more of them. Perturbed
    inputs that were submitted on fewer examples leave where those of their source were submitted on more.

    Args:
        old: the manifest that the folder held.
        committed: units of ``old`` whose outcomes are in the folder.
    """
    own = {record.case: record for record in new.cases}
    anew = {
        name
        for name, code in new.code.items()
        if name not in old.code or old.code[name].digest != code.digest
    }
    submitted = {_submitter(record): record.examples_planned for record in new.cases}
    others = {}
    for record in old.cases:
        now = own.get(record.case)
        if anew & {*_code_names(record)}:
            continue
        if now is not None:
            own[record.case] = now = replace(now, kept=record.kept)
            if set(now.units) < set(record.units) <= set(committed):
                examples = record.examples_planned
                own[record.case] = now = replace(now, units=record.units, examples_planned=examples)
            if now.units == record.units and {*now.random_batches} < {*record.random_batches} <= {*committed}:
                own[record.case] = replace(now, random_batches=record.random_batches)
        elif any(unit in committed for unit in record.all_units):
            again = record.case.attack.startswith(PREFIX) and submitted.get(_submitter(record), 0)
            if record.examples_planned >= again:
                others[record.case] = record
    runs = {(case.subject.defence, case.attack) for case in own}
    not_run = (entry for entry in old.not_run if (entry.subject, entry.attack) not in runs)
    subjects = {case.subject for case in others}
    probes = {probe.subject: probe for probe in old.probes if probe.subject in subjects}
    return replace(
        new,
        cases=(*others.values(), *own.values()),
        checkpoints=tuple(({c.name: c for c in (*old.checkpoints, *new.checkpoints)}).values()),
        probes=tuple((probes | {probe.subject: probe for probe in new.probes}).values()),
        code=old.code | new.code,
        notes=tuple(dict.fromkeys([*new.notes, *old.notes])),
        not_run=tuple(dict.fromkeys([*new.not_run, *not_run])),
        invocations=(*old.invocations, *new.invocations),
        sequential=new.sequential or old.sequential,
        stages=tuple({(s.case, s.name): s for s in (*old.stages, *new.stages)}.values()),
    )


def _submitter(record: CaseRecord) -> tuple[Case, str]:
    """The setting of a case, and of which subject the perturbed inputs are."""
    attack = record.case.attack
    return record.case.setting, attack.partition("/")[0] if attack.startswith(PREFIX) else ""


# Both are read once a process: the code that is loaded does not change, and a run asks several times.
@functools.cache
def _versions() -> dict[str, str]:
    """Of the attacks twelve hexadecimal digits for their files, which say more than a version number."""
    package, digest = Path(attacks.__path__[0]), hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes() + b"\0")
    facts = {"csrobust": __version__, "attacks": digest.hexdigest()[:12], "python": platform.python_version()}
    for name in PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts


@functools.cache
def git_state() -> GitState:
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
