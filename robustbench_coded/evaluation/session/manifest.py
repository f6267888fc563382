"""What an evaluation writes into run.json, and what it keeps of earlier ones in the same folder."""

import datetime
import functools
import hashlib
import platform
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from msgspec import convert
from msgspec.structs import replace

import attacks
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint
from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan, stopped
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.schema.case import Case, Subject
from robustbench_coded.schema.manifest import (
    CaseRecord,
    CheckpointFacts,
    GitState,
    Identity,
    Invocation,
    Machine,
    RunManifest,
)
from robustbench_coded.schema.words import CONTROLS
from robustbench_coded.version import __version__


@functools.cache
def attack_code() -> str:
    """Twelve hexadecimal digits for the names and contents of the package's files, which say more than a
    version number.
    """
    package, digest = Path(attacks.__path__[0]), hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow", "safetensors", "scikit-learn")
# What may not change within a run folder, and the option that says it.
IDENTITY = {
    "data": "--data",
    "limit": "--limit",
    "seed": "--seed",
    "last_batch": "--last-batch",
    "memory": "--memory",
    "subset": "--first",
    "class_mix": "--class-mix",
    "data_sha256": "--data",
}
# What of it was not said, in words.
NONE_SAID = {"class_mix": "that of the images as taken", "memory": "empty"}
_OTHER_EXAMPLES = {
    True: "the first examples, not random ones; give --first to go on there, another --out, or start anew "
    "with --overwrite",
    False: "random examples, not the first ones; leave out --first to go on there, give another --out, or "
    "start anew with --overwrite",
}


def new_manifest(
    prepared: PreparedEvaluation,
    plan: Plan,
    *,
    sizes: Mapping[PlannedCase, int] = MappingProxyType({}),
    looks: Mapping[PlannedCase, int] = MappingProxyType({}),
    table: Collection[PlannedCase] = (),
    random: Mapping[PlannedCase, Sequence[Unit]] = MappingProxyType({}),
) -> RunManifest:
    """The manifest of this evaluation alone.

    Args:
        sizes: the examples that a record runs on; all for records that are not named.
        looks: by what the error of verdicts that rest on a record is divided; 0 for those that are not named.
        table: records on fewer examples than the verdict of their setting.
        random: units in random batches, by record.
    """
    units: dict[PlannedCase, list[str]] = {case: [] for case in plan.cases}
    for unit in plan.units:
        units[unit.case].append(unit.id)
    invocation = Invocation(
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=prepared.config.command,
        options=prepared.config.as_data(),
        resolved=prepared.resolved,
        versions=dict(_versions()),
        git=_git(),
        machine=_machine(prepared.setup.device),
    )
    return RunManifest(
        identity=prepared.identity,
        data=prepared.data_facts,
        checkpoints=tuple(convert(c.facts, CheckpointFacts) for c in prepared.setup.checkpoints),
        cases=tuple(
            _record_of(
                prepared,
                case,
                prepared.examples_planned(case, sizes.get(case)),
                units[case],
                looks.get(case, 0),
                case in table,
                random.get(case, ()),
            )
            for case in plan.cases
        ),
        probes=prepared.probes,
        notes=plan.notes,
        invocations=(invocation,),
    )


def checked_against(
    old: RunManifest, identity: Identity, checkpoints: Sequence[LoadedCheckpoint], path: Path
) -> None:
    """Refuses to go on in a folder that was made with something else.

    Raises:
        InputError: other data, limit, seed or last-batch rule, or other weights under a known name.
    """
    for key, option in IDENTITY.items():
        before, now = getattr(old.identity, key), getattr(identity, key)
        if before != now and key == "subset":
            raise InputError(f"{path} was made with {_OTHER_EXAMPLES[before is None]}")
        if before != now:
            none = NONE_SAID.get(key, "all examples")
            before, now = (none if x is None else x for x in (before, now))
            what = f"{option} {before}" if key != "data_sha256" else "other images behind --data"
            given = f"{now}" if key != "data_sha256" else "these"
            raise InputError(
                f"{path} was made with {what}, not {given}; "
                "give another --out, or start anew with --overwrite"
            )
    for checkpoint in checkpoints:
        known = old.checkpoint(checkpoint.name)
        if known is not None and known.sha256 != checkpoint.sha256:
            raise InputError(
                f"{path} knows other weights under the name {checkpoint.name!r}; "
                "name these otherwise (--ckpt NAME=PATH), or start anew with --overwrite"
            )


def kept_from(
    old: RunManifest | None, subjects: Collection[Subject], planned: Collection[Case]
) -> "EarlierCases":
    """What an earlier evaluation left in the folder.

    Args:
        subjects: of this evaluation. planned: the records that it may begin.
    """
    if old is None:
        return EarlierCases(None, {}, frozenset())
    asked = {name for command in old.invocations for name in command.attacks}

    def may_come_again(record: CaseRecord) -> bool:
        """Its own records, and what checks and submissions led to: those no command needs to name."""
        return record.case in planned or (
            record.case.subject in subjects
            and (record.for_check or record.case.attack not in asked)
            and record.case.attack not in CONTROLS
        )

    records = {record.case: record for record in (*old.cases, *old.waiting)}
    return EarlierCases(
        old, records, frozenset(key for key, record in records.items() if not may_come_again(record))
    )


@dataclass
class EarlierCases:
    """Records of earlier evaluations in a folder; those without any outcome leave unless they come again.

    Attributes:
        waiting: all of them. Those that this evaluation may begin again count for nothing until it does, so
            that it decides as if it had never been interrupted.
        visible: the others, of other subjects, or attacks that were named and that it does not plan.
    """

    old: RunManifest | None
    waiting: dict[Case, CaseRecord]
    visible: frozenset[Case]

    def extended_by(self, new: RunManifest) -> RunManifest:
        """The manifest of both."""
        old = self.old
        if old is None:
            return new
        records = {key: record for key, record in self.waiting.items() if key in self.visible}
        records |= {record.case: record for record in new.cases}
        return replace(
            new,
            cases=tuple(records.values()),
            waiting=tuple(record for key, record in self.waiting.items() if key not in records),
            checkpoints=tuple(({c.name: c for c in (*old.checkpoints, *new.checkpoints)}).values()),
            probes=tuple(({probe.subject: probe for probe in (*old.probes, *new.probes)}).values()),
            invocations=(*old.invocations, *new.invocations),
            sequential=new.sequential or old.sequential,
        )

    def revealed(self, manifest: RunManifest, committed: Collection[str]) -> RunManifest:
        """The manifest with the records that did not come again, or came on fewer examples than before.

        Args:
            committed: units of ``waiting`` whose outcomes are in the folder.
        """
        records = {record.case: record for record in manifest.cases}
        least = {record.case.setting: record.examples_planned for record in manifest.cases if record.looks}
        empty = set()
        for key, record in self.waiting.items():
            now, whole = records.get(key), all(unit in committed for unit in record.units)
            if not any(unit in committed for unit in record.all_units):
                if now is record and key in self.visible:
                    del records[key]
                    empty.add(record.case.subject)
            elif now is None:
                short = record.examples_planned < least.get(key.setting, 0)
                records[key] = replace(record, table=record.table or short)
            elif whole and set(now.units) < set(record.units):
                records[key] = replace(
                    now, units=record.units, examples_planned=record.examples_planned, table=False
                )
        empty -= {record.case.subject for record in records.values()}
        probes = tuple(probe for probe in manifest.probes if probe.subject not in empty)
        return replace(manifest, cases=tuple(records.values()), probes=probes, waiting=())


def _record_of(
    prepared: PreparedEvaluation,
    case: PlannedCase,
    examples: int,
    units: list[str],
    looks: int,
    table: bool,
    random: Sequence[Unit],
) -> CaseRecord:
    subject, config = case.subject, prepared.config
    known = prepared.conditions.known_draws
    return CaseRecord(
        case=case.case,
        spec=subject.spec,
        batch_size=subject.k,
        sequence=subject.sequence,
        randomised=subject.randomised,
        batch_dependent=subject.batch_dependent,
        has_base=subject.has_base,
        for_check=case.for_check,
        examples_planned=examples,
        draws=1 if not subject.randomised else known if case.threat.draw_known else config.draws,
        query_budget=None if case.attack in CONTROLS else config.budget,
        stopped=stopped(prepared.conditions, case),
        looks=looks,
        table=table,
        units=tuple(units),
        random_batches=tuple(unit.id for unit in random),
    )


# Both are read once a process: the code that is loaded does not change, and a run asks several times.
@functools.cache
def _versions() -> dict[str, str]:
    found = {"csrobust": __version__, "attacks": attack_code(), "python": platform.python_version()}
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
    if device != "cpu":
        import torch

        from attacks.accelerator import device_name

        gpu = device_name(torch.device(device))
    return Machine(system=platform.system(), processor=platform.machine(), device=device, gpu=gpu)
