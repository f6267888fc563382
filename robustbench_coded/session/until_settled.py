"""``--until``: attacks in rounds, and no more of them where nothing can change the word any more.

Every round takes more batches, and every attack that a lane has begun runs on all of them. Within a round a
lane begins one attack after the other, the most damage per image first, until what is left would settle its
word or none is left. Then the lane is judged. All that is decided depends on committed outcomes, at moments
that depend on them alone: a run that was interrupted, or has more workers, decides the same.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import structs

from attacks.presets import PRESETS
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.attack_order import damage_per_image
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.measured import share_left
from robustbench_coded.evaluation.planning.partition_choice import (
    chosen_for_partitions,
    depends_on_batch,
    partition_units,
)
from robustbench_coded.evaluation.planning.partitions import partitions_to_settle
from robustbench_coded.evaluation.planning.plan import UnitMaker
from robustbench_coded.evaluation.planning.random_batches import victims_to_settle
from robustbench_coded.evaluation.planning.rounds import Lane, lane_of
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import load_run
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.controls import CLEAN, CONTROLS, STANDARD
from robustbench_coded.schema.stops import Sequential, Stop
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.session.listener import Listener
from robustbench_coded.session.questions import claimed_setting, settings_judged
from robustbench_coded.statistics.anytime.final import is_final
from robustbench_coded.statistics.clustered import clopper_pearson
from robustbench_coded.statistics.correlation import Correlation
from robustbench_coded.statistics.floor import SHARE_OF_CLEAN
from robustbench_coded.statistics.intervals import TAIL

# Brings these rows, and these units in random partitions, up to date.
Update = Callable[[Sequence[AttackCase], Sequence[Unit]], None]


class UntilSettled:
    """The rounds of one evaluation.

    Args:
        rows: all that is planned, in its order.
        maker: cuts them into the units of the rounds reached.
        metadata: of the units that are committed, by id; grows as units are.
        update: see ``Update``.

    Attributes:
        partitions: the units in random partitions that words rest on.
        retired: the ids of those that they rested on before.
    """

    def __init__(
        self,
        config: EvalConfig,
        prepared: PreparedEvaluation,
        rows: Sequence[AttackCase],
        maker: UnitMaker,
        metadata: Mapping[str, Mapping[str, Any]],
        update: Update,
    ):
        assert prepared.rounds is not None and config.until is not None
        self.config, self.prepared, self.rounds = config, prepared, prepared.rounds
        self.rows, self.maker, self.metadata, self._update = rows, maker, metadata, update
        self.judged = settings_judged(config, rows, prepared.eps)
        self.begun: dict[Lane, list[AttackCase]] = {lane: [] for lane in self.judged}
        self.partitions: dict[CaseKey, list[Unit]] = {}
        self.retired: set[str] = set()
        self._spent: dict[Lane, int] = dict.fromkeys(self.judged, 0)
        questions = sum(map(len, self.judged.values()))
        self.rounds.record = Sequential(
            until=config.until, rounds=self.rounds.ends, questions=max(questions, 1)
        )
        self._planned_images = {
            lane: sum(self.maker.images(row) for row in self._planned(lane)) for lane in self.judged
        }

    def run(self, folder: RunFolder, listener: Listener) -> None:
        """Goes through the rounds until every lane has stopped or has met all examples."""
        self.rounds.open = set(self.judged)
        self.rounds.reached = dict.fromkeys(self.judged, 0)
        # A victim has a batch of its own: what it costs comes when whole batches have had their say.
        victims = [lane for lane in self.judged if lane.inputs != WHOLE_BATCH.inputs]
        last = len(self.rounds.ends)
        for number in range(1, last + 1):
            moving = [lane for lane in self.judged if lane in self.rounds.open and lane not in victims]
            looked = [lane for lane in moving if number in self.rounds.looks_at(lane)]
            self._round(number, moving, looked, folder, listener)
        early = [lane for lane in victims if len(self.rounds.looks_at(lane)) > 1]
        self._round(1, early, early, folder, listener)
        bases = [base for lane in victims if (base := self._base(lane)) is not None]
        waiting = [lane for lane in dict.fromkeys([*victims, *bases]) if lane in self.rounds.open]
        self._round(last, waiting, waiting, folder, listener)
        for lane in self.rounds.open:
            self.rounds.reached[lane] = last

    def _round(
        self,
        number: int,
        moving: Sequence[Lane],
        looked: Sequence[Lane],
        folder: RunFolder,
        listener: Listener,
    ) -> None:
        """One round of these lanes, at whose end some of them are looked at."""
        if not moving:
            return
        self.rounds.reached.update(dict.fromkeys(moving, number))
        self._attack(moving)
        self._partitions(folder, looked)
        if looked:
            self._stop(folder, looked, listener)

    def final_rows(self) -> list[AttackCase]:
        """What the evaluation runs beside what has stopped: all attacks of open lanes, the paper's of all."""
        self.rounds.completing = True
        begun = self._all_begun
        return [
            row
            for row in self.rows
            if row.attack in CONTROLS
            or row in begun
            or lane_of(row) in self.rounds.open
            or self.rounds.completes(row)
        ]

    @property
    def not_begun(self) -> list[AttackCase]:
        """The attacks of open lanes that have not begun."""
        begun = self._all_begun
        return [
            row
            for row in self.rows
            if row.attack not in CONTROLS and lane_of(row) in self.rounds.open and row not in begun
        ]

    def _attack(self, moving: Sequence[Lane]) -> None:
        """Begins attacks, one in each lane at a time, as long as a lane needs another one."""
        while True:
            self._bring_up_to_date()
            wanted = [lane for lane in moving if not self._enough(lane)]
            more = [row for lane in wanted if (row := self._next(lane)) is not None]
            if not more:
                return
            for row in more:
                self.begun[lane_of(row)].append(row)

    def _enough(self, lane: Lane) -> bool:
        """Whether what is left would settle the word on all examples if it stayed so low.

        Then more batches are needed, and not more attacks.
        """
        serving = self._in_any_batch(self._planned(lane)) or self._planned(lane)
        shares = [self._share(row) for row in self.begun[lane] if row in serving]
        known = [share for share in shares if share is not None]
        if not known:
            return False
        examples = self.rounds.examples
        looks = len(self.rounds.looks_at(lane)) + 1
        high = clopper_pearson(min(known) * examples, examples, TAIL / looks / self._questions)[1]
        return high < self._bar(lane) and (min(known) <= self._nothing or not self._has_open(lane))

    def _has_open(self, lane: Lane) -> bool:
        """Whether it is the base model's, and a defence of it is open: what it keeps could be lost."""
        return any(self._base(other) == lane for other in self.rounds.open)

    @property
    def _questions(self) -> int:
        """Between how many words the error is divided."""
        return self.rounds.record.questions if self.rounds.record else 1

    @property
    def _nothing(self) -> float:
        """What none right of all examples leaves: a base model that keeps no more has nothing to lose."""
        return clopper_pearson(0, self.rounds.examples, TAIL)[1]

    def _bar(self, lane: Lane) -> float:
        """About what the word is held against; the verdict has it exactly."""
        about = claimed_setting(self.config, self.prepared.eps)
        if self.config.claim is not None and any(
            (str(setting.threat), setting.eps) == about for setting in self.judged[lane]
        ):
            return self.config.claim
        if lane.subject.has_base and lane.subject.spec != STANDARD:
            return self.config.margin / 100
        return SHARE_OF_CLEAN * self._clean(lane) + 1 / (self.prepared.data_facts.classes or 1)

    def _next(self, lane: Lane) -> AttackCase | None:
        """The attack to begin next; of equals, the one planned first."""
        left = [row for row in self._planned(lane) if row not in self.begun[lane]]
        return max(left, key=self._worth, default=None)

    def _worth(self, row: AttackCase) -> float:
        lane = lane_of(row)
        seen = []
        for other, begun in self.begun.items():
            if other.inputs != lane.inputs or other.subject == lane.subject:
                continue
            shares = [self._share(one) for one in begun if one.attack == row.attack]
            seen += [
                1 - share / max(self._clean(other), share, 1e-9) for share in shares if share is not None
            ]
        return damage_per_image(row, self.maker.images(row), seen)

    def _partitions(self, folder: RunFolder, looked: Sequence[Lane]) -> None:
        """Scores in many random batches what few leave open, where that is likely to settle a word."""
        lanes = [
            lane
            for lane in looked
            if lane in self.rounds.open and lane.subject.batch_dependent and self._enough(lane)
        ]
        if not lanes:
            return
        # An input that was attacked in a whole batch can also be the only victim of another one.
        begun = self._all_begun
        run = load_run(folder.path)
        chosen = chosen_for_partitions(run, [row for row in self.rows if row in begun])
        chosen = [row for row in chosen if lane_of(row) in lanes]
        correlations = {result.key: result.correlation for result in run.results}
        for row in chosen:
            before = {unit.id for unit in self.partitions.get(row.key, ())}
            enough = partial(self._enough_partitions, row, correlations[row.key])
            units = partition_units(row, self.maker, self.rounds.examples, enough)
            self.partitions[row.key] = units
            self.retired |= before - {unit.id for unit in units}
            self._spent[lane_of(row)] += sum(unit.images for unit in units if unit.id not in before)
        if chosen:
            self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        """Random signs take nothing away that attacks leave: no word waits for them."""
        begun = self._all_begun
        self._update([row for row in self.rows if row.attack == CLEAN or row in begun], self.all_partitions)

    def _enough_partitions(self, row: AttackCase, correlation: Correlation, wanted: int, batches: int) -> int:
        """How many random partitions or victims are likely to settle the word; if none, all."""
        lane, share = lane_of(row), self._share(row)
        # Half of a look's error is that of the upper end which the partitions give.
        tail = TAIL / (len(self.rounds.looks_at(lane)) + 1) / self._questions / 2
        left = 1.0 if share is None else share
        if row.threat.one_victim:
            return victims_to_settle(left, wanted, self._bar(lane), tail, correlation, row.subject.k)
        return partitions_to_settle(left, wanted, batches, self._bar(lane), tail)

    def _stop(self, folder: RunFolder, looked: Sequence[Lane], listener: Listener) -> None:
        """Stops the lanes whose words are final."""
        judgements = {judgement.key.setting: judgement for judgement in load_run(folder.path).judgements}
        final = [lane for lane in looked if lane in self.rounds.open and self._final(lane, judgements)]
        # The base model goes on for as long as a defence of it does.
        needed = {self._base(lane) for lane in self.rounds.open if lane not in final}
        for lane in final:
            if lane in needed:
                continue
            self.rounds.open.discard(lane)
            for setting in self.judged[lane]:
                stop = self._stop_at(lane, setting, judgements[setting])
                record = self.rounds.record
                assert record is not None
                self.rounds.record = structs.replace(record, stops=(*record.stops, stop))
                listener.note(
                    f"settled: {lane.subject.label} on {lane.subject.checkpoint}, {stop.threat}: {stop.word} "
                    f"after {stop.examples} of {stop.planned} examples and {stop.images:,} of "
                    f"{stop.images_planned:,} image gradients"
                )

    def _final(self, lane: Lane, judgements: Mapping[CaseKey, Judgement]) -> bool:
        found = [judgements.get(setting) for setting in self.judged[lane]]
        if self.config.until == "claim":
            return all(one is not None and one.verdict.word == VerdictWord.CLAIM_REFUTED for one in found)
        base = self._base(lane)
        at = None if base is None or base not in self.judged else judgements.get(self.judged[base][0])
        accuracy = None if at is None else at.verdict.accuracy
        low = 0.0 if accuracy is None else accuracy.low
        return all(one is not None and is_final(one.verdict, low, self.rounds.examples) for one in found)

    def _stop_at(self, lane: Lane, setting: CaseKey, judgement: Judgement) -> Stop:
        begun, subject = self.begun[lane], lane.subject
        first = begun[0]
        units = [unit for row in begun[:1] for unit in self.maker.units(row)]
        batches = {index for unit in units for group in unit.groups for index in group}
        batches |= {victim.batch for unit in units for victim in unit.victims}
        names = tuple(row.attack for row in begun)
        return Stop(
            checkpoint=subject.checkpoint,
            defence=subject.label,
            k=subject.shown_k,
            n=subject.n,
            threat=str(setting.threat),
            norm=setting.norm,
            eps=setting.eps,
            eps_space=setting.eps_space,
            word=judgement.verdict.word,
            examples=self.prepared.examples_planned(self.config, first),
            planned=self.prepared.examples_in_full(self.config, first),
            batches=len(batches),
            images=self._spent[lane] + sum(self.maker.images(row) for row in begun),
            images_planned=self._planned_images[lane],
            attacks=names,
            spared=tuple(
                dict.fromkeys(
                    row.attack
                    for row in self._planned(lane)
                    if row not in begun and row.attack not in PRESETS["paper"]
                )
            ),
        )

    def _base(self, lane: Lane) -> Lane | None:
        """The lane of the base model of a defence."""
        subject = lane.subject
        if subject.spec == STANDARD or not subject.has_base:
            return None
        return next(
            (
                other
                for other in self.judged
                if other.subject.spec == STANDARD
                and (other.subject.checkpoint, other.budget) == (subject.checkpoint, lane.budget)
            ),
            None,
        )

    def _planned(self, lane: Lane) -> list[AttackCase]:
        return [row for row in self.rows if row.attack not in CONTROLS and lane_of(row) == lane]

    def _in_any_batch(self, rows: Sequence[AttackCase]) -> list[AttackCase]:
        """Of attacks on whole batches of a batch-dependent defence, those that suit any batch."""
        return [
            row
            for row in rows
            if row.subject.batch_dependent and row.threat == WHOLE_BATCH and not depends_on_batch(row)
        ]

    def _clean(self, lane: Lane) -> float:
        rows = [row for row in self.rows if row.attack == CLEAN and row.subject == lane.subject]
        shares = [share for row in rows if (share := self._share(row)) is not None]
        return shares[0] if shares else 1.0

    def _share(self, row: AttackCase) -> float | None:
        return share_left(row, self.maker.units(row), self.metadata)

    @property
    def _all_begun(self) -> set[AttackCase]:
        return {row for rows in self.begun.values() for row in rows}

    @property
    def all_partitions(self) -> list[Unit]:
        return [unit for units in self.partitions.values() for unit in units]
