"""Which subject each subject of a comparison is set against, the paired differences, and why some can't be
formed.

The baseline of a subject is the one that differs in one respect alone: another run, another checkpoint or
another defence, whichever the baseline's name is a name of.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from robustbench_coded.errors import InputError
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.paired import Difference, NotPaired, paired_difference
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.text.formatting import inference_text
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Subject, ThreatModel
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import CONTROLS, ENSEMBLE, STANDARD


class Contender(NamedTuple):
    """One subject of one run."""

    run: str
    subject: Subject


Counterpart = Callable[[Contender], Contender | None]


def baseline_of(
    runs: dict[str, str], contenders: Sequence[Contender], name: str | None
) -> tuple[Counterpart, str]:
    """For each contender the one it is compared with (None for none), and the baseline in words.

    Args:
        runs: name -> path of each run.
        name: of a run, a checkpoint or a defence; None takes the first run, or standard inference where
            there is one run alone.

    Raises:
        InputError: the name is none of these.
    """
    if name is None:
        if len(runs) > 1:
            name = next(iter(runs))
        elif any(c.subject.defence == STANDARD for c in contenders):
            name = STANDARD
        else:
            return lambda contender: None, "none: the one run has no standard inference"
    by_path = {path: key for key, path in runs.items()}
    name = by_path.get(name.rstrip("/"), name)
    by = name  # a text from here on

    def alike(*ways: Callable[[Contender, Contender], bool]) -> Counterpart:
        """The one that is alike in the first of these ways in which any is; None where several are."""

        def counterpart(mine: Contender) -> Contender | None:
            found = next(filter(None, ([o for o in contenders if way(o, mine)] for way in ways)), [])
            return found[0] if len(found) == 1 else None

        return counterpart

    if by in runs:
        return alike(
            lambda o, c: o == c._replace(run=by),
            lambda o, c: o.run == by and o.subject.inference == c.subject.inference,
            lambda o, c: (
                (o.run, o.subject.checkpoint) == (by, c.subject.checkpoint)
                and o.subject.defence != STANDARD != c.subject.defence
            ),
        ), f"run {by}"
    if any(c.subject.checkpoint == by for c in contenders):
        return alike(lambda o, c: o == c._replace(subject=c.subject.of_checkpoint(by))), f"checkpoint {by}"
    if any(c.subject.defence == by for c in contenders):

        def beside(o: Contender, c: Contender) -> bool:
            there = (o.run, o.subject.checkpoint, o.subject.defence)
            return there == (c.run, c.subject.checkpoint, by)

        return alike(
            lambda o, c: beside(o, c) and (o.subject.k, o.subject.n) == (c.subject.k, c.subject.n),
            lambda o, c: beside(o, c) and o.subject.k == c.subject.k,
            beside,
        ), f"defence {by}"
    known_names = [
        *runs,
        *{c.subject.checkpoint: None for c in contenders},
        *{c.subject.defence: None for c in contenders},
    ]
    raise InputError(
        f"--baseline {name!r} is no run, checkpoint or defence here; choose from "
        + ", ".join(dict.fromkeys(known_names))
    )


class Pairing:
    """Forms paired differences between cases of runs, of what both have finished.

    Attributes:
        reasons: why some could not be formed, a sentence each.
    """

    def __init__(self, runs: dict[str, Run]):
        self._results: dict[tuple[str, Case], CaseResult] = {
            (name, result.case): result for name, run in runs.items() for result in run.results
        }
        self._runs = runs
        self.reasons: dict[str, None] = {}

    def difference(self, mine: Contender, other: Contender, row: SummaryRow) -> Difference | None:
        """The accuracy of ``row`` less that of the same attack on ``other``."""
        first = self._result(mine, row, row.threat)
        second = self._result(other, row, row.threat)
        if second is None:  # a fixed answer to each input is the same under every threat model
            second = self._result(other, row, WHOLE_BATCH)
            second = None if second is None or second.randomised or second.batch_dependent else second
        if first is None or second is None or first.cell is None or second.cell is None:
            return None
        if not (first.complete and second.complete):
            return None
        why = self._other_data(mine.run, other.run)
        if not why and row.attack == ENSEMBLE and mine.run != other.run:
            why = self._other_attacks(mine.run, first, other.run, second)
        if why:
            self.reasons[why] = None
            return None
        try:
            return paired_difference(first, second)
        except NotPaired as error:
            where = f"{inference_text(mine.subject, with_k=True)} in {mine.run} and "
            where += f"{inference_text(other.subject, with_k=True)} in {other.run}"
            self.reasons[f"{where}: {error}."] = None
            return None

    def _other_attacks(self, own: str, first: CaseResult, other: str, second: CaseResult) -> str:
        """Why ensembles of two runs are not made of the same attacks; '' where they are."""
        ours, theirs = (
            {c.attack for c in whole.sources if self._results[run, c].complete} - {*CONTROLS}
            for run, whole in ((own, first), (other, second))
        )
        lacking = [
            f"only {run} ran {', '.join(sorted(names))}"
            for run, names in ((own, ours - theirs), (other, theirs - ours))
            if names
        ]
        where = f"{inference_text(first.case.subject, with_k=True)} on {first.case.subject.checkpoint}"
        told = f"Ensembles of {where}, {first.case.threat}, are of different attacks and not compared"
        return f"{told}: {'; '.join(lacking)}." if lacking else ""

    def _result(self, contender: Contender, row: SummaryRow, threat: ThreatModel) -> CaseResult | None:
        """The result of the same attack and perturbation; a step size that differs is another attack."""
        key = Case(contender.subject, threat, row.perturbation, row.attack, row.step_size)
        return self._results.get((contender.run, key))

    def _other_data(self, own: str, other: str) -> str:
        """Why examples of two runs are not the same ones; '' where they are."""
        if own == other:
            return ""
        first, second = (self._runs[name].manifest for name in (own, other))
        if same_data(first, second):
            return ""
        names = " and ".join(dict.fromkeys((str(first.identity.data), str(second.identity.data))))
        return (
            f"{own} and {other} use different images or labels, or another order of them, as far as their "
            f"run.json shows ({names}), so no difference is computed."
        )


def same_data(own: RunManifest, other: RunManifest) -> bool:
    """True if the examples that both have are the same images with the same labels, whatever their names."""
    first, second = own.identity.data_sha256, other.identity.data_sha256
    fewer, more = sorted((own.data.images or "", other.data.images or ""), key=len)
    return (first is not None and first == second) or (fewer != "" and more.startswith(fewer))
