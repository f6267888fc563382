"""A shift run read back: who answered what rightly, set by set."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.errors import InputError
from robustbench_coded.runs.folder import read_manifest, read_run
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.planned_case import PlannedCase
from robustbench_coded.shift.facts import SetFacts, ShiftFacts, from_data
from robustbench_coded.statistics.correlation import Correlation, pooled
from robustbench_coded.statistics.outcomes import cells

SHIFT = "shift.json"


@dataclass(frozen=True, eq=False)
class Answers:
    """What one checkpoint behind one inference answered.

    Attributes:
        right: for each set [examples, draws], whether an answer is right. The examples of a collection come
            in one order.
        clustered: whether the answers of a batch may depend on one another, by co-batched inputs or by the
            draw that they share.
        k: size of a batch.
    """

    subject: SubjectKey
    right: dict[SetFacts, NDArray[np.bool_]]
    clustered: bool
    k: int

    def of(self, sets: list[SetFacts]) -> NDArray[np.bool_]:
        """[examples, sets x draws], of sets of one collection."""
        return np.concatenate([self.right[one] for one in sets], axis=1)

    @cached_property
    def correlation(self) -> Correlation:
        """Of two answers of a batch, as all sets show it; shifted images take the place of attacked ones."""
        of = {True: [], False: []}  # type: dict[bool, list]
        for one, right in self.right.items():
            of[one.severity > 0].append((right, self.batches(len(right))))
        return pooled(of[True] or of[False], of[False])

    def batches(self, examples: int) -> NDArray[np.int64]:
        """[examples], which batch of its set each was answered in."""
        return np.arange(examples) // self.k


@dataclass(frozen=True, eq=False)
class ShiftRun:
    """A folder of ``csrobust shift``.

    Attributes:
        answers: of every subject whose units are all there.
        missing: names of those with units that failed or have not run.
        labels: of each set [examples].
    """

    path: Path
    facts: ShiftFacts
    manifest: RunManifest
    answers: tuple[Answers, ...]
    missing: tuple[SubjectKey, ...]
    labels: dict[SetFacts, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def collections(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.collection for one in self.facts.sets))

    def sets(self, collection: str) -> list[SetFacts]:
        """The sets of a collection, in their order."""
        return [one for one in self.facts.sets if one.collection == collection]


def is_shift(path: Path) -> bool:
    """Whether a folder was made by ``csrobust shift``."""
    return (path / SHIFT).is_file()


def load_shift(path: Path) -> ShiftRun:
    """Reads a folder of ``csrobust shift``.

    Raises:
        InputError: it is none, or shift.json is not usable.
    """
    facts, manifest = from_data(read_manifest(path, SHIFT), f"{path}/{SHIFT}")
    frame, _, _ = read_run(path, manifest.unit_ids)
    found = {} if frame.empty else cells(frame)
    answers, missing = [], []
    labels: dict[SetFacts, NDArray[np.int64]] = {}
    for case in manifest.rows:
        right = _right(case, facts, found, labels)
        if right is None:
            missing.append(case.subject)
        else:
            clustered = case.batch_dependent or case.randomised
            answers.append(Answers(case.subject, right, clustered, facts.k))
    if not manifest.rows:
        raise InputError(f"{path}/{SHIFT} plans nothing; start the run anew with --overwrite")
    return ShiftRun(path, facts, manifest, tuple(answers), tuple(missing), labels)


def _right(
    case: PlannedCase, facts: ShiftFacts, found: dict, labels: dict[SetFacts, NDArray[np.int64]]
) -> dict[SetFacts, NDArray[np.bool_]] | None:
    """Both kinds of draws side by side, and the labels added; None where answers are missing."""
    parts = [found[case.key, purpose] for purpose in ("selection", "scoring") if (case.key, purpose) in found]
    if len(parts) != (2 if case.randomised else 1):
        return None
    right = {}
    for one in facts.sets:
        wanted = np.arange(one.start, one.start + one.examples)
        pieces = []
        for cell in parts:
            rows = np.searchsorted(cell.example, wanted)
            if rows[-1] >= len(cell.example) or (cell.example[rows] != wanted).any():
                return None
            pieces.append(cell.correct[rows])
            labels[one] = cell.label[rows]
        right[one] = np.concatenate(pieces, axis=1)
    return right
