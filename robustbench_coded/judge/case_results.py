"""The results of a run: every planned attack, and per threat model `strongest`, `ensemble` and `naive-min`.

Who may use what:

* `clean` and `random-sign` are candidates, too: an attacker can always leave the input alone or add noise.
  Clean outcomes serve every perturbation and, since a victim keeps its batch and slot, every threat; random
  signs serve their own perturbation where whole batches are attacked.
* `*/known` also gets the perturbations of `*/unknown`, scored on the draws that its own attacks were made
  for.
* `strongest` is chosen on selection draws like the ensemble, so its own accuracy is unbiased; ties go to the
  attack planned first. In a deterministic defence, and where the draw is known, selecting and scoring
  outcomes are the same, nothing is random to the attacker, and there is no `naive-min` result.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pandas as pd

from robustbench_coded.judge.anytime import RANDOM, RandomBatches, mixture_interval, random_batches
from robustbench_coded.judge.correlation import UNMEASURED, Correlation, Shown, pooled_of, shown
from robustbench_coded.judge.ensemble import (
    PlayableAttack,
    aligned,
    ensemble,
    naive_min,
    strongest,
    worst_case,
)
from robustbench_coded.judge.intervals import TAIL, Interval, accuracy_interval, over_draws
from robustbench_coded.judge.outcomes import Cell, cells, majorities
from robustbench_coded.judge.variance import NOT_SHARED, Drawn, SharedDraws, drawn, shared_of
from robustbench_coded.schema.case import Case, Subject
from robustbench_coded.schema.manifest import CaseRecord
from robustbench_coded.schema.words import (
    CLEAN,
    COMBINED,
    CONTROLS,
    ENSEMBLE,
    NAIVE_MIN,
    RANDOM_SIGN,
    STRONGEST,
    IntervalKind,
)

Cells = dict[tuple[Case, str], Cell]

CLOSE = 0.03  # attacks that come so close to one another found the same


@dataclass(frozen=True)
class CaseResult:
    """One row of summary.csv before it is counted out."""

    case: Case
    cell: Cell | None  # scoring outcomes; None while there are none
    clean: Cell | None  # unperturbed inputs: the same examples and draws
    examples_planned: int
    batch_dependent: bool  # of the defence: outcomes come in batches, those of victims in shared ones
    randomised: bool
    complete: bool
    sources: tuple[Case, ...]  # the attacks it was made from, whose costs it bears
    has_base: bool = True  # whether the defence names a base model
    # Of combined rows: which attack `strongest` is, and on how many draws was chosen (0: nothing random).
    strongest_attack: str = ""
    selection_draws: int = 0
    correlation: Correlation = UNMEASURED  # of two outcomes of a batch, by all results of the subject
    shared: SharedDraws = NOT_SHARED  # of outcomes of one draw, by all results of the subject
    # By what the error is divided where it may stop along the way; 0: a number fixed beforehand.
    looks: int = 0
    table: bool = False  # run on fewer examples than its verdict rests on: shown, and no part of an ensemble
    # The same perturbed inputs in random batches; of an ensemble, those of each attack that could be played
    # alone.
    random_batches: tuple[RandomBatches, ...] = ()
    clean_random_batches: tuple[RandomBatches, ...] = ()  # the outcomes of ``clean`` in random batches
    # Whether these are the inputs of every attack that comes within `CLOSE` of the strongest.
    all_near_in_random: bool = False
    # Of an ensemble with outcomes missing: that of the attacks with all of theirs, if there are any.
    of_complete: "CaseResult | None" = None
    # Results of its attacks that were no perturbed inputs: the clean ones were scored in their place.
    faulty: int = 0

    @property
    def unattacked(self) -> "CaseResult":
        """The same examples and draws without any attack."""
        case = self.case.of_attack(CLEAN)
        return replace(self, case=case, cell=self.clean, random_batches=self.clean_random_batches)

    def of_majorities(self, votes: int) -> "CaseResult":
        """The same with majorities of so many draws in place of draws; itself where there is one answer.

        Random batches have one draw each, and what rows show of batches is about single answers.
        """
        if votes == 1 or not self.randomised or self.cell is None:
            return self
        cell = majorities(self.cell, votes)
        return replace(self, cell=cell, random_batches=(), correlation=UNMEASURED)

    def interval(self, tail: float = TAIL) -> Interval | None:
        """The accuracy with its interval, each end of which errs with probability ``tail``; None while there
        are no outcomes.
        """
        cell = self.cell
        if cell is None:
            return None
        if self.looks and not self.batch_dependent and cell.correct.shape[1] == 1:
            right, answers = int(cell.correct.sum()), len(cell.example)
            low, high = mixture_interval(right, answers, tail)
            return Interval(right / answers, float(low), float(high))
        tail /= max(self.looks, 1)
        interval = accuracy_interval(
            cell.correct,
            cell.batch,
            batch_dependent=self.batch_dependent,
            correlation=self.correlation,
            shared=self.shared,
            tail=tail,
        )
        if not self.random_batches:
            return interval
        return self.on_these_images(interval, [scored.interval for scored in self.random_batches], tail)

    @property
    def shown(self) -> Interval | None:
        """The accuracy with the interval that every format shows: `interval`, but over draws only for one
        attack on a random defence whose batches matter, without random batches and with two draws or more.

        Such an interval decides nothing: few batches say little of the population, which stands beside it.
        """
        cell, interval = self.cell, self.interval()
        says_more = self.random_batches or self.case.threat.draw_known or self.case.attack in COMBINED
        if cell is None or interval is None or says_more or len(cell.draw) < 2:
            return interval
        if not (self.batch_dependent and self.randomised):
            return interval
        low, high = over_draws(cell.correct, cell.batch, self.shared)
        return Interval(interval.estimate, low, high, IntervalKind.OVER_DRAWS, (interval.low, interval.high))

    def on_these_images(
        self, interval: Interval, ends: Sequence[Callable[[float], tuple[float, float]]], tail: float
    ) -> Interval:
        """``interval``, of the population, with what random batches of the evaluated images show in its
        place.

        An attacker who may always play one attack leaves at most what that attack leaves. So random batches
        give an ensemble its upper end: the lowest of its attacks', each of which errs at its share of the
        tail.

        They give it a lower end where every attack that comes near the strongest was scored in them: he
        plays one of these, and what all of them leave at least, he leaves. Inputs that are made together may
        do more in the batch that they were made in than in random ones. So that end does not count where
        random batches leave more than the disjoint ones, in which they are together, by more than `CLOSE`.

        Args:
            ends: of each of ``random_batches``, by its tail.
        """
        played = [end(tail / len(ends)) for end in ends]
        own = self.case.attack != ENSEMBLE
        least = min(end[0] for end in played)
        in_random = min(float(scored.correct.mean()) for scored in self.random_batches)
        holds = own or (self.all_near_in_random and in_random <= interval.estimate + CLOSE)
        low = min(least if holds else interval.low, interval.estimate)
        high = max(min(end[1] for end in played), interval.estimate)
        population = interval.low, interval.high
        return Interval(interval.estimate, low, high, IntervalKind.EVALUATED_IMAGES, population)


def case_results(
    outcomes: pd.DataFrame, planned: Iterable[CaseRecord], faulty: Mapping[Case, int] = MappingProxyType({})
) -> list[CaseResult]:
    """Results in the order of the plan, those of one setting together and its combined rows after them.

    Args:
        outcomes: columns as in docs/run-folder.md.
        planned: the attacks and controls of the plan.
        faulty: results of each attack that were no perturbed inputs, where there were any.
    """
    again = random_batches(outcomes)
    found = cells(outcomes[outcomes["purpose"] != RANDOM] if again else outcomes)
    groups: dict[Case, list[CaseResult]] = {}
    for case in planned:
        cell = _nonempty(found.get((case.case, "scoring")))
        clean = _clean_like(cell, case.case, found)
        result = CaseResult(
            case=case.case,
            cell=cell,
            clean=clean,
            examples_planned=case.examples_planned,
            batch_dependent=case.batch_dependent,
            randomised=case.randomised,
            complete=cell is not None and len(cell.example) >= case.examples_planned,
            sources=(case.case,),
            has_base=case.has_base,
            looks=case.looks,
            table=case.table,
            random_batches=_scored([case.case], again),
            clean_random_batches=_clean_again(case.case, again),
            faulty=faulty.get(case.case, 0),
        )
        groups.setdefault(case.case.setting, []).append(result)
    everything = [result for results in groups.values() for result in results]
    combined = [
        result
        for results in groups.values()
        for result in [*results, *_combined(results, everything, found, again)]
    ]
    known, drawn_together = correlations(everything), shared_draws(everything, found)

    def correlated(result: CaseResult) -> CaseResult:
        measured = known.get((result.case.subject, result.case.threat.inputs), UNMEASURED)
        together = drawn_together.get(result.case.subject, NOT_SHARED)
        whole = None if result.of_complete is None else correlated(result.of_complete)
        return replace(result, correlation=measured, shared=together, of_complete=whole)

    return [correlated(result) for result in combined]


def correlations(results: Sequence[CaseResult]) -> dict[tuple[Subject, str], Correlation]:
    """By subject and kind of attacked inputs, what its results say of how alike the outcomes of a batch are.

    Whole batches speak for all kinds. Results with fewer than half of the most examples say too little.
    """
    shows: dict[tuple[Subject, str], list[tuple[int, Shown]]] = defaultdict(list)
    for result in results:
        if result.cell is not None and result.batch_dependent and result.cell.correct.size:
            said = shown(result.cell.correct, result.cell.batch, attacked=result.case.attack not in CONTROLS)
            shows[result.case.subject, result.case.threat.inputs].append((len(result.cell.example), said))
    pooled = {}
    for (subject, inputs), of in shows.items():
        whole = [] if inputs == "batch" else shows.get((subject, "batch"), [])
        most = max(examples for examples, _ in of)
        own = [said for examples, said in of if 2 * examples >= most]
        pooled[subject, inputs] = pooled_of(own + [said for _, said in whole])
    return pooled


def shared_draws(results: Sequence[CaseResult], found: Cells) -> dict[Subject, SharedDraws]:
    """By subject that draws, what its attacked results say of shared draws.

    The draws on which attacks were chosen say it as well as those on which they are scored.
    """
    shows: dict[Subject, list[Drawn | None]] = defaultdict(list)
    for result in results:
        if not result.randomised or result.cell is None:
            continue
        own = shows[result.case.subject]
        if result.case.attack not in CONTROLS:
            seen = map(_nonempty, (result.cell, found.get((result.case, "selection"))))
            own += [drawn(cell.correct, cell.batch) for cell in seen if cell is not None]
    return {subject: shared_of(of) for subject, of in shows.items()}


def _combined(
    results: Sequence[CaseResult],
    everything: Sequence[CaseResult],
    found: Cells,
    again: Mapping[Case, RandomBatches],
) -> list[CaseResult]:
    """The results made from several attacks under one threat model; none before there are outcomes."""
    attacked = [result for result in results if result.case.attack not in CONTROLS]
    if not attacked:
        return []
    model = attacked[0]
    known = model.case.threat.draw_known
    weaker = [result for result in inherited(model.case, everything) if not result.table]
    own = [result for result in attacked if not result.table]
    attacks = [*own, *weaker] or attacked
    usable = [*attacks, *_controls(model.case, everything)]
    candidates = aligned(
        [candidate for result in usable if (candidate := _candidate(result, found, known)) is not None]
    )
    if not candidates or not len(candidates[0].scoring.example) or not len(candidates[0].scoring.draw):
        return []
    best = strongest(candidates)
    combined = {STRONGEST: candidates[best].scoring}
    by_batch = model.batch_dependent and not model.case.threat.one_victim
    if model.randomised and not known:
        combined |= {ENSEMBLE: ensemble(candidates, best, by_batch=by_batch)}
        combined |= {NAIVE_MIN: naive_min(candidates)}
        selection_draws = len(candidates[0].selection.draw)
    else:
        combined |= {ENSEMBLE: worst_case(candidates, by_batch=by_batch)}
        selection_draws = 0
    # What may stop along the way is judged on the examples that all of its attacks have met.
    examples = [result.examples_planned for result in attacks]
    planned = min(examples) if any(result.looks for result in attacks) else max(examples)
    everybody = tuple(candidate.case for candidate in candidates)
    # Clean inputs are scored in random batches for their own accuracy: as an attack they would only cost
    # error.
    playable = {
        ENSEMBLE: [key for key in everybody if key.attack != CLEAN],
        STRONGEST: [candidates[best].case],
    }
    chosen = [candidate.selection.correct.mean() for candidate in candidates]
    near = [
        key
        for key, left in zip(everybody, chosen)
        if left <= chosen[best] + CLOSE and key.attack not in CONTROLS
    ]
    made = [
        CaseResult(
            case=model.case.of_attack(name),
            cell=cell,
            clean=_clean_like(cell, model.case, found),
            examples_planned=planned,
            batch_dependent=model.batch_dependent,
            randomised=model.randomised,
            complete=all(result.complete for result in attacks) and len(cell.example) >= planned,
            sources=(candidates[best].case,) if name == STRONGEST else everybody,
            has_base=model.has_base,
            looks=max(result.looks for result in usable),
            strongest_attack=candidates[best].case.attack,
            selection_draws=selection_draws,
            random_batches=_scored(playable.get(name, ()), again),
            clean_random_batches=_clean_again(model.case, again),
            all_near_in_random=bool(near) and all(key in again for key in near),
            faulty=sum(result.faulty for result in attacks) if name == ENSEMBLE else 0,
        )
        for name, cell in combined.items()
    ]
    if all(result.complete for result in made) or all(result.complete for result in everything):
        return made
    whole = _of_complete(results, everything, found, again)
    return [
        replace(result, of_complete=whole) if result.case.attack == ENSEMBLE else result for result in made
    ]


def _of_complete(
    results: Sequence[CaseResult],
    everything: Sequence[CaseResult],
    found: Cells,
    again: Mapping[Case, RandomBatches],
) -> CaseResult | None:
    """The ensemble of the attacks with all of their outcomes; None where it lacks some, too."""
    whole = [result for result in everything if result.complete]
    made = _combined([result for result in results if result.complete], whole, found, again)
    return next((result for result in made if result.case.attack == ENSEMBLE and result.complete), None)


def _candidate(result: CaseResult, found: Cells, known: bool) -> PlayableAttack | None:
    """The result as an attack to choose; None while its outcomes to choose by are missing."""
    if result.cell is None:
        return None
    seen = known or not result.randomised
    selection = result.cell if seen else _nonempty(found.get((result.case, "selection")))
    return None if selection is None else PlayableAttack(result.case, selection, result.cell)


def inherited(key: Case, everything: Sequence[CaseResult]) -> list[CaseResult]:
    """Attacks of the attacker who differs only in not knowing the draw."""
    if not key.threat.draw_known:
        return []
    weaker = key.under(key.threat.with_draw("unknown"))
    return [
        result
        for result in everything
        if result.case.setting == weaker and result.case.attack not in CONTROLS
    ]


def _controls(key: Case, everything: Sequence[CaseResult]) -> list[CaseResult]:
    """Random signs and the clean inputs, as measured under this threat, else where they mean the same."""
    served = []
    for attack in (RANDOM_SIGN, CLEAN):
        results = [
            result
            for result in everything
            if (result.case.attack, result.case.subject) == (attack, key.subject)
            and (attack == CLEAN or result.case.perturbation == key.perturbation)
            and not result.table
        ]
        own = [result for result in results if result.case.threat == key.threat]
        # A victim that is left alone sits in a clean batch; one with random signs has clean co-batched
        # inputs, and one that is not attacked has no signs at all.
        same = [result for result in results if not result.case.threat.one_victim]
        if attack == RANDOM_SIGN and key.threat.inputs != "batch":
            same = []
        served += (own or same)[:1]
    return served


def _clean_like(cell: Cell | None, key: Case, found: Cells) -> Cell | None:
    """Clean outcomes of the same examples and, where there are several, the same draws."""
    if cell is None:
        return None
    clean = [
        (other.threat, made)
        for (other, purpose), made in found.items()
        if other.attack == CLEAN and purpose == "scoring" and other.subject == key.subject
    ]
    # Those of the same threat first, then those of whole batches.
    clean.sort(key=lambda pair: (pair[0] != key.threat, pair[0].one_victim))
    for _, made in clean:
        if np.isin(cell.example, made.example).all() and np.isin(cell.draw, made.draw).all():
            return made.at_examples(cell.example).at_draws(cell.draw)
    return None


def _scored(keys: Iterable[Case], again: Mapping[Case, RandomBatches]) -> tuple[RandomBatches, ...]:
    return tuple(again[key] for key in keys if key in again)


def _clean_again(key: Case, again: Mapping[Case, RandomBatches]) -> tuple[RandomBatches, ...]:
    """The clean inputs of a result's subject in random batches."""
    clean = [result for result in again if result.attack == CLEAN and result.subject == key.subject]
    return _scored(clean[:1], again)


def _nonempty(cell: Cell | None) -> Cell | None:
    return cell if cell is not None and cell.correct.size else None
