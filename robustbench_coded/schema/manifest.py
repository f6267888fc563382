"""run.json as typed, validated objects: what a run is made on, what it planned, and how it was invoked.

    manifest_from(data) -> RunManifest      data: run.json as JSON data, from anybody
    manifest_data(manifest) -> dict         JSON data to write

What figures are counted from is checked strictly. What only informs (versions, machines, probes ...) may hold
anything in a stranger's file: there, a value of another type counts as missing.
"""

from typing import Any, get_args

import msgspec
from msgspec import Struct

from robustbench_coded.schema.case import BudgetKey
from robustbench_coded.schema.controls import CLEAN
from robustbench_coded.schema.evaluated import (
    CheckpointFacts,
    DataFacts,
    Identity,
    MatchedBaseline,
    ProbeRecord,
)
from robustbench_coded.schema.invocation import Invocation
from robustbench_coded.schema.planned_case import PlannedCase, UnitEntry
from robustbench_coded.schema.stops import Outlook, Sequential


class ManifestError(ValueError):
    """What is wrong with run.json, in one line, without its path."""


class RunManifest(Struct, frozen=True, kw_only=True):
    """The content of run.json.

    Attributes:
        rows: every planned row, in the order in which tables show them.
        notes: sentences for the reader of the report.
        finished: whether the last invocation came to its end.
        waiting: rows of earlier invocations that the last one, which has not finished, may come to again.
        superseded: ids of units of earlier invocations whose rows now have other units.
        sequential: how far rows of the last invocation ran and why, where not all ran on all examples.
        outlook: what further commands would do, and how long they would take.
    """

    identity: Identity
    data: DataFacts
    checkpoints: tuple[CheckpointFacts, ...]
    rows: tuple[PlannedCase, ...]
    probes: tuple[ProbeRecord, ...] = ()
    matched: tuple[MatchedBaseline, ...] = ()
    notes: tuple[str, ...]
    invocations: tuple[Invocation, ...]
    finished: bool = False
    waiting: tuple[PlannedCase, ...] = ()
    superseded: tuple[str, ...] = ()
    sequential: Sequential | None = None
    outlook: tuple[Outlook, ...] = ()

    @property
    def unit_ids(self) -> list[str]:
        """The ids of all planned units, in the order of the rows, each once."""
        return list(dict.fromkeys(unit.id for row in self.rows for unit in row.all_units))

    @property
    def last(self) -> Invocation:
        """The last invocation; an empty one where none is recorded."""
        return self.invocations[-1] if self.invocations else Invocation()

    @property
    def judged_budgets(self) -> frozenset[BudgetKey]:
        """Budgets that were asked for; a check may measure at another, which is not judged."""
        return frozenset(row.bound for row in self.rows if not row.for_check and row.attack != CLEAN)

    def checkpoint(self, name: str) -> CheckpointFacts | None:
        """What is known about a checkpoint, if the run has one of that name."""
        return next((c for c in self.checkpoints if c.name == name), None)


def manifest_from(data: Any) -> RunManifest:
    """run.json, checked.

    Raises:
        ManifestError: a part that figures are counted from is missing or of the wrong kind.
    """
    try:
        return msgspec.convert(_without_misfits(data, RunManifest, STRICT), RunManifest)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".")
        what = what[:1].lower() + what[1:]
        raise ManifestError(f"{place}: {what}" if place else what) from error


def manifest_data(manifest: RunManifest) -> dict[str, Any]:
    """The manifest as JSON data, fields in their order."""
    return msgspec.to_builtins(manifest)


# Parts of run.json that figures are counted from: a value of the wrong type in them is an error.
STRICT = {
    RunManifest: {"identity", "data", "checkpoints", "rows", "notes", "invocations"},
    CheckpointFacts: {"name", "sha256"},
    PlannedCase: set(PlannedCase.__struct_fields__),
    UnitEntry: set(UnitEntry.__struct_fields__),
}


def _without_misfits(data: Any, kind: Any, strict: dict[Any, set[str]]) -> Any:
    """The data without informational values of another type, so that these take their defaults."""
    if isinstance(data, list | tuple):
        items = [part for part in get_args(kind) if part is not Ellipsis]
        return [_without_misfits(entry, items[0], strict) for entry in data] if items else data
    if not (isinstance(data, dict) and isinstance(kind, type) and issubclass(kind, Struct)):
        return data
    kept = {}
    for entry in msgspec.structs.fields(kind):
        if entry.name not in data:
            continue
        value = _without_misfits(data[entry.name], entry.type, strict)
        if entry.name in strict.get(kind, ()) or _fits(value, entry.type):
            kept[entry.name] = value
    return kept


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return False
    return True
