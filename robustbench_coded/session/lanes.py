"""What is known of the lanes of an evaluation; their verdicts are closed when nothing that may still run
can change them.
"""

from msgspec import structs

from robustbench_coded.evaluation.planning.batches import Lane, claimed_setting, lane_of, lanes_judged
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.resubmission import share_left
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import Stop
from robustbench_coded.schema.words import CLEAN, CONTROLS, STANDARD, VerdictWord
from robustbench_coded.session import evaluation, forecast
from robustbench_coded.statistics.verdict import is_final


class Lanes:
    """The lanes that have a verdict, and the rows that were planned on them.

    Args:
        run: what has been begun.
        costs: seconds of rows.

    Attributes:
        judged: the settings by which each lane is closed.
        open: lanes whose verdict something may still change.
        cases: attacks planned on each lane.
        stops: the verdicts that are closed, in the order in which they were.
    """

    def __init__(self, run: evaluation.Evaluation, costs: forecast.RowCosts):
        self.run, self.costs = run, costs
        self.config, self.prepared = run.config, run.prepared
        self.extents = run.prepared.extents
        self.stops: list[Stop] = []
        self.judged = lanes_judged(self.config, run.planned, self.prepared.eps)
        self.open = set(self.judged)
        self.cases: dict[Lane, list[PlannedCase]] = {}
        for case in run.planned:
            if case.attack not in CONTROLS:
                self.cases.setdefault(lane_of(case), []).append(case)

    def close(self) -> None:
        """Closes the lanes whose words are final; a base model stays open as long as a defence of it is."""
        if not self.open:
            return
        final = [lane for lane in self.judged if lane in self.open and self._final(lane)]
        needed = {self.base(lane) for lane in self.open if lane not in final}
        for lane in final:
            if lane not in needed or self._nothing_left(lane):
                self.stop(lane)

    def _final(self, lane: Lane) -> bool:
        judgements = self.run.judgements
        found = [judgements.get(setting) for setting in self.judged[lane]]
        if self.config.until == "claim":
            return all(one is not None and one.verdict.word == VerdictWord.CLAIM_REFUTED for one in found)
        base = self.base(lane)
        at = None if base is None else judgements.get(self.judged[base][0])
        accuracy = None if at is None else at.verdict.accuracy
        low = 0.0 if accuracy is None else accuracy.low
        examples = self.prepared.setup.examples
        return all(one is not None and is_final(one.verdict, low, examples) for one in found)

    def stop(self, lane: Lane) -> None:
        self.open.discard(lane)
        for setting in self.judged[lane]:
            judgement = self.run.judgements.get(setting)
            if judgement is not None:
                stop = self._stop_at(lane, setting, judgement)
                self.stops.append(stop)
                self.run.listener.settled(stop)
        if self.run.sequential is not None:
            self.run.sequential = structs.replace(self.run.sequential, stops=tuple(self.stops))

    def _stop_at(self, lane: Lane, setting: Case, judgement: Judgement) -> Stop:
        cases = self.cases[lane]
        ran = [case for case in cases if case in self.run.begun and case not in self.run.for_table]
        shares = {case: share for case in ran if (share := self.share(case)) is not None}
        examples = max(map(self.prepared.examples_planned, ran), default=0)
        if lane.one_victim:  # others are the victims of random batches
            scored = (self.run.random.get(case, ()) for case in ran)
            examples = max([examples, *(sum(len(unit.random_batches) for unit in units) for units in scored)])
        batches = {i for case in ran[:1] for unit in self.run.units(case) for g in unit.groups for i in g}
        worst = min(shares, key=lambda case: shares[case]).attack if shares else ""
        return Stop(
            case=setting.of_attack(worst),
            verdict=judgement.verdict.word,
            examples=examples,
            planned=self.prepared.setup.examples,
            batches=len(batches),
            images=sum(unit.images for case in ran for unit in self.run.units(case)),
            images_planned=sum(map(self.costs.images_in_full, cases)),
            attacks=tuple(case.attack for case in ran),
            skipped_attacks=tuple(dict.fromkeys(case.attack for case in cases if case not in self.run.begun)),
        )

    def word(self, setting: Case) -> VerdictWord:
        found = self.run.judgements.get(setting)
        return VerdictWord.NOT_SETTLED if found is None else found.verdict.word

    def by_interval(self, setting: Case) -> bool:
        """Whether a word is open because its interval contains the bar."""
        found = self.run.judgements.get(setting)
        return found is None or (
            found.verdict.word == VerdictWord.NOT_SETTLED and not found.verdict.above_the_bar
        )

    def _nothing_left(self, lane: Lane) -> bool:
        """Whether a base model keeps nothing that its defences could lose."""
        return any(self.share(case) == 0 for case in self.cases[lane])

    def ordered(self, victims: bool) -> list[Lane]:
        return [lane for lane in self.judged if lane in self.open and lane.one_victim == victims]

    def base(self, lane: Lane) -> Lane | None:
        """The lane of the base model of a defence."""
        if lane.subject.spec == STANDARD or not lane.subject.has_base:
            return None
        return next(
            (
                other
                for other in self.judged
                if other.subject.spec == STANDARD
                and (other.subject.checkpoint, other.budget) == (lane.subject.checkpoint, lane.budget)
            ),
            None,
        )

    def bar(self, lane: Lane) -> float:
        """About what the accuracy is held against; the verdict has it exactly."""
        claimed = claimed_setting(self.config, self.prepared.eps)
        if claimed is not None and any(
            (str(s.threat), s.perturbation.eps) == claimed for s in self.judged[lane]
        ):
            return self.config.claim or 0.0
        base = self.base(lane)
        if base is None:
            return 0.05 * self.clean(lane) + 1 / (self.prepared.data_facts.classes or 1)
        shares = [share for case in self.cases[base] if (share := self.share(case)) is not None]
        return self.config.margin / 100 + min(shares, default=0.0)

    def clean(self, lane: Lane) -> float:
        for case in self.run.begun:
            if case.attack == CLEAN and case.subject == lane.subject:
                return self.share(case) or 0.0
        return 1.0

    def submitted(self, lane: Lane) -> list[PlannedCase]:
        return [case for case in self.run.begun if case.submission is not None and lane_of(case) == lane]

    def goes_with(self, case: PlannedCase, lane: Lane) -> bool:
        """Whether a row belongs to a lane, or is a control of its subject."""
        if case.attack in CONTROLS:
            return case.subject == lane.subject
        return (case.subject, case.threat.inputs) == (lane.subject, lane.inputs)

    def share(self, case: PlannedCase) -> float | None:
        """What a row leaves, on the draws that attacks are chosen by; None before it has run."""
        if case not in self.run.begun:
            return None
        return share_left(case, self.run.units(case), self.run.done.metadata)

    def run_in(self, case: PlannedCase) -> int:
        """Rounds that a row has begun to run in."""
        if case not in self.run.begun:
            return 0
        return 1 if self.extents is None else self.extents.of(case)

    def rounds_of_open(self, case: PlannedCase) -> int:
        """The rounds of the open lanes of a row's subject."""
        reached = [
            rounds
            for lane, rounds in self.run.reached.items()
            if (lane.subject, lane.inputs) == (case.subject, case.threat.inputs)
        ]
        return max(reached, default=1)

    def likely(self, case: PlannedCase, rounds: int) -> float:
        """Seconds that a row is likely to take: less where attacks end at the first wrong answer."""
        lane = self.cases.get(lane_of(case), ())
        shares = [share for one in lane if (share := self.share(one)) is not None]
        return self.costs.likely(case, rounds, min(shares, default=1.0))
