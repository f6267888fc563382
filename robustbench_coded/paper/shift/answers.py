"""The answers of a run of `csrobust paper shift`: what shift.json states, and outcomes by set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robustbench_coded.errors import InputError
from robustbench_coded.judge import outcomes
from robustbench_coded.paper.shift.images import ShiftSet, block_starts
from robustbench_coded.runs.folder import read_manifest, read_run
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import CaseRecord, ManifestError, RunManifest, manifest_from

_CHUNK = 1000  # images read at a time


class SetFacts(msgspec.Struct, frozen=True):
    """One set.

    Attributes:
        start: where its block begins in the run's data.
        examples: images that are scored.
        sha256: of their pixels.
    """

    collection: str
    name: str
    severity: int
    start: int
    examples: int
    sha256: str


class ShiftFacts(msgspec.Struct, frozen=True):
    """Facts that may not change within a shift run, besides the evaluation's own."""

    sets: tuple[SetFacts, ...]
    k: int
    limit: int | None
    subset: str | None
    seed: int
    baseline: str


def facts_of(sets: Sequence[ShiftSet], k: int) -> tuple[SetFacts, ...]:
    """Reads every image once."""
    facts = []
    for shift, start in zip(sets, block_starts([len(shift) for shift in sets], k)):
        digest = hashlib.sha256()
        for rows in np.array_split(np.arange(len(shift)), -(-len(shift) // _CHUNK)):
            digest.update(np.ascontiguousarray(shift.images[rows]).tobytes())
        about = (shift.collection, shift.name, shift.severity, int(start), len(shift))
        facts.append(SetFacts(*about, digest.hexdigest()))
    return tuple(facts)


def as_data(facts: ShiftFacts, manifest: RunManifest) -> dict[str, Any]:
    """The content of shift.json."""
    return {"shift": msgspec.to_builtins(facts), "evaluation": msgspec.to_builtins(manifest)}


def from_data(data: dict[str, Any], where: str) -> tuple[ShiftFacts, RunManifest]:
    """shift.json, checked.

    Raises:
        InputError: a part is missing or of the wrong kind.
    """
    try:
        facts = msgspec.convert(data.get("shift"), ShiftFacts)
        return facts, manifest_from(data.get("evaluation"))
    except (msgspec.ValidationError, ManifestError) as error:
        raise InputError(f"{where}: {error}; restore it, or start the run anew with --overwrite") from error


SHIFT = "shift.json"


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of one checkpoint behind one inference.

    Attributes:
        right: for each set [examples, draws], whether an answer is right. The examples of a collection come
            in one order.
        clustered: whether the answers of a batch may depend on one another, by co-batched inputs or by the
            draw that they share.
        k: size of a batch.
    """

    subject: Subject
    right: dict[SetFacts, NDArray[np.bool_]]
    clustered: bool
    k: int

    def of(self, sets: list[SetFacts]) -> NDArray[np.bool_]:
        """[examples, sets x draws], of sets of one collection."""
        return np.concatenate([self.right[facts] for facts in sets], axis=1)

    def batches(self, examples: int) -> NDArray[np.int64]:
        """[examples], which batch of its set each was answered in."""
        return np.arange(examples) // self.k


@dataclass(frozen=True, eq=False)
class ShiftRun:
    """A folder of ``csrobust paper shift``.

    Attributes:
        answers: of every subject whose units are all there.
        missing: names of those with units that failed or have not run.
    """

    path: Path
    facts: ShiftFacts
    manifest: RunManifest
    answers: tuple[Answers, ...]
    missing: tuple[Subject, ...]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def collections(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(facts.collection for facts in self.facts.sets))

    def sets(self, collection: str) -> list[SetFacts]:
        """The sets of a collection, in their order."""
        return [facts for facts in self.facts.sets if facts.collection == collection]


def load_shift(path: Path) -> ShiftRun:
    """Reads a folder of ``csrobust paper shift``.

    Raises:
        InputError: it is none, or shift.json is not usable.
    """
    facts, manifest = from_data(read_manifest(path, SHIFT), f"{path}/{SHIFT}")
    frame, _, _ = read_run(path, manifest.unit_ids)
    cells = {} if frame.empty else outcomes.cells(frame)
    answers, missing = [], []
    for case in manifest.cases:
        right = _right(case, facts, cells)
        if right is None:
            missing.append(case.case.subject)
        else:
            clustered = case.batch_dependent or case.randomised
            answers.append(Answers(case.case.subject, right, clustered, facts.k))
    if not manifest.cases:
        raise InputError(f"{path}/{SHIFT} plans nothing; start the run anew with --overwrite")
    return ShiftRun(path, facts, manifest, tuple(answers), tuple(missing))


def _right(case: CaseRecord, facts: ShiftFacts, cells: dict) -> dict[SetFacts, NDArray[np.bool_]] | None:
    """Both kinds of draws side by side; None where answers are missing."""
    parts = [
        cells[case.case, purpose] for purpose in ("selection", "scoring") if (case.case, purpose) in cells
    ]
    if len(parts) != (2 if case.randomised else 1):
        return None
    right = {}
    for shift in facts.sets:
        wanted = np.arange(shift.start, shift.start + shift.examples)
        pieces = []
        for cell in parts:
            rows = np.searchsorted(cell.example, wanted)
            if rows[-1] >= len(cell.example) or (cell.example[rows] != wanted).any():
                return None
            pieces.append(cell.correct[rows])
        right[shift] = np.concatenate(pieces, axis=1)
    return right
