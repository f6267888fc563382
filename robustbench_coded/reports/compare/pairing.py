"""Which subject each subject of a comparison is set against, the paired differences, and why some can't be
formed.

The baseline of a subject is the one that differs in one respect alone: another run, another checkpoint or
another defence, whichever the baseline's name is a name of.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from msgspec import structs

from attacks.attack import Submitted
from robustbench_coded.errors import InputError
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.checks import accuracy_of, left_more, lowest
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.paired import Difference, NotPaired, paired_difference, shared_cells
from robustbench_coded.judge.run import RunData
from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.text.formatting import subject_text
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Subject, ThreatModel
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import CONTROLS, ENSEMBLE, STANDARD


class Contender(NamedTuple):
    """One subject of one run."""

    run: str
    subject: Subject


Counterpart = Callable[[Contender], Contender | None]
Role = tuple[bool, str, float | None]  # of an attack: whether it knows the draw, its name, its step size


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
    networks = [c.subject.checkpoint for c in contenders]
    defences = [c.subject.defence for c in contenders]
    known = ", ".join(dict.fromkeys([*runs, *networks, *defences]))
    raise InputError(f"--baseline {name!r} is no run, checkpoint or defence here; choose from {known}")


class Pairing:
    """Forms paired differences between cases of runs, of what both have finished.

    A defence and its base model are compared as the verdict compares them, each under all attacks on it.
    Other ensembles are formed again of the attacks that ran on both; a subject's own inputs that are
    submitted to it again (`from:SELF/...`) are the same attack on each.

    Attributes:
        reasons: why some could not be formed, a sentence each.
        lower: the attacks that were left out of an ensemble and are lower than it, a sentence each.
    """

    def __init__(self, runs: dict[str, RunData]):
        self._results: dict[tuple[str, Case], CaseResult] = {
            (name, result.case): result for name, run in runs.items() for result in run.results
        }
        self._runs = runs
        self.reasons: dict[str, None] = {}
        self.lower: dict[str, None] = {}

    def difference(self, mine: Contender, other: Contender, row: SummaryRow) -> Difference | None:
        """The accuracy of ``row`` less that of the same attack on ``other``; no wider than 0 where both
        are the same defence with the same predictions.
        """
        first, second = self._pair(mine, other, row)
        if first is None or second is None or first.cell is None or second.cell is None:
            return None
        if why := self._other_data(mine.run, other.run):
            self.reasons[why] = None
            return None
        if row.attack == ENSEMBLE and not of_base(mine, other):
            common = self.common_attacks(mine, other, row)
            ours, theirs = self._again(mine, first, common), self._again(other, second, common)
            if ours is None or theirs is None:
                both = f"{self._named(mine)} and {self._named(other)}"
                self.reasons[f"No attack under {row.threat} ran on both {both}."] = None
                return None
            self._note_lower(mine, first, ours, common)
            self._note_lower(other, second, theirs, common)
            first, second = ours, theirs
        elif not (first.complete and second.complete):
            return None
        try:
            found = paired_difference(first, second)
        except NotPaired as error:
            self.reasons[f"{self._named(mine)} and {self._named(other)}: {error}."] = None
            return None
        same = self.same_defence(mine, other) and same_predictions(first, second)
        return replace(found, low=0.0, high=0.0) if same else found

    def same_defence(self, mine: Contender, other: Contender) -> bool:
        """True for the same defence on the same weights, by the same code of the user's."""
        return mine.subject == other.subject and self._made_of(mine) == self._made_of(other)

    def common_attacks(self, mine: Contender, other: Contender, row: SummaryRow) -> frozenset[Role]:
        """The attacks that ran on both, with all of their outcomes."""
        first, second = self._pair(mine, other, row)
        if first is None or second is None:
            return frozenset()
        return frozenset(self._roles(mine, first)) & frozenset(self._roles(other, second))

    def _roles(self, of: Contender, whole: CaseResult) -> dict[Role, Case]:
        """The attacks that an ensemble was made from, by what they are to their subject."""
        results = (self._results[of.run, case] for case in whole.sources if case.attack not in CONTROLS)
        return {_role(result): result.case for result in results if result.complete}

    def _again(self, of: Contender, whole: CaseResult, common: Collection[Role]) -> CaseResult | None:
        """The ensemble of these attacks alone; None where there are none."""
        chosen = {case for role, case in self._roles(of, whole).items() if role in common}
        run, subject = self._runs[of.run], of.subject
        records = [
            record
            for record in run.manifest.cases
            if record.case in chosen or (record.case.subject == subject and record.case.attack in CONTROLS)
        ]
        own = (run.outcomes[["checkpoint", "defence"]] == [subject.checkpoint, subject.defence]).all(axis=1)
        made = case_results(run.outcomes[own.to_numpy()], records) if chosen else []
        ensembles = {result.case: result for result in made if result.case.attack == ENSEMBLE}
        # An attacker who knows the draw may have no attack in common but those of one who does not.
        unknown = whole.case.under(whole.case.threat.with_draw("unknown")).of_attack(ENSEMBLE)
        return ensembles.get(whole.case) or ensembles.get(unknown)

    def _note_lower(
        self, of: Contender, whole: CaseResult, again: CaseResult, common: Collection[Role]
    ) -> None:
        """Notes the lowest attack that is not in common, if it leaves less than those that are."""
        left_out = [c for role, c in self._roles(of, whole).items() if role not in common]
        results = [self._results[of.run, case] for case in left_out]
        if results and left_more(again, least := lowest(results)) > 0:
            self.lower[
                f"{self._named(of)}: {least.case.attack} is not among the common attacks and leaves "
                f"{accuracy_of(least):.1%}, they {accuracy_of(again):.1%}."
            ] = None

    def _pair(
        self, mine: Contender, other: Contender, row: SummaryRow
    ) -> tuple[CaseResult | None, CaseResult | None]:
        """The results of the same attack on both."""
        first, second = self._result(mine, row, row.threat), self._result(other, row, row.threat)
        if second is None:  # a fixed answer to each input is the same under every threat model
            second = self._result(other, row, WHOLE_BATCH)
            second = None if second is None or second.randomised or second.batch_dependent else second
        return first, second

    def _made_of(self, of: Contender) -> tuple[object, ...]:
        """Hashes of a contender's weights and of the user's code behind it."""
        manifest, checkpoint = self._runs[of.run].manifest, of.subject.checkpoint
        specs = {record.spec for record in manifest.cases if record.case.subject == of.subject}
        names = {f"model {checkpoint}", *(f"defence {spec} on {checkpoint}" for spec in specs)}
        code = (facts.digest for name, facts in sorted(manifest.code.items()) if name in names)
        return *(facts.sha256 for facts in manifest.checkpoints if facts.name == checkpoint), *code

    def _named(self, of: Contender) -> str:
        return f"{subject_text(of.subject, with_k=True)}{f' in {of.run}' if len(self._runs) > 1 else ''}"

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


def of_base(mine: Contender, other: Contender) -> bool:
    """True if one of both is standard inference, with which the other's verdict compares it."""
    return (mine.subject.defence == STANDARD) != (other.subject.defence == STANDARD)


def same_predictions(first: CaseResult, second: CaseResult) -> bool:
    """True if both have the same predictions for all images and draws that they share."""
    try:
        own, other = shared_cells(first, second)
    except NotPaired:
        return False
    return np.array_equal(own.prediction, other.prediction)


def _role(result: CaseResult) -> Role:
    """What an attack is to its subject: of whose inputs it was shown its own, those `from:itself/...`."""
    case, attack = result.case, result.made_by
    size = "" if case.subject.n is None else f":N={case.subject.n}"
    if isinstance(attack, Submitted) and attack.subject == f"{case.subject.defence}{size}":
        attack = structs.replace(attack, subject="itself")
    return case.threat.draw_known, str(attack), case.step_size


def same_data(own: RunManifest, other: RunManifest) -> bool:
    """True if the examples that both have are the same images with the same labels, whatever their names."""
    first, second = own.identity.data_sha256, other.identity.data_sha256
    fewer, more = sorted((own.data.images or "", other.data.images or ""), key=len)
    return (first is not None and first == second) or (fewer != "" and more.startswith(fewer))
