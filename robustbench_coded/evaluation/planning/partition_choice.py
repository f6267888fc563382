"""Which rows are scored in random partitions of the examples or in random batches, and in which units.

chosen_for_partitions(run, cases)        -> [AttackCase]     where many batches could settle a word
clean_in_few_batches(run, cases)         -> [AttackCase]     whose clean accuracy few batches leave uncertain
partition_units(case, maker, examples)   -> [Unit]
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from attacks.naming import parse
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.partitions import partitions_wanted
from robustbench_coded.evaluation.planning.plan import UnitMaker, batches_for
from robustbench_coded.evaluation.planning.random_batches import random_batches_wanted
from robustbench_coded.results.judgements import Judgement, words_together
from robustbench_coded.results.run import Run
from robustbench_coded.schema.controls import CLEAN, CONTROLS
from robustbench_coded.schema.threat_model import ONE_VICTIM, WHOLE_BATCH
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.intervals import Interval

CLEAN_PARTITIONS = 20  # they narrow the clean accuracy of a good network in five batches to about a point
UNCERTAIN = 0.03  # how far an end of a clean accuracy's interval may lie from it without more batches


def depends_on_batch(case: AttackCase) -> bool:
    """Whether an input's perturbation depends on the inputs that it was attacked together with."""
    if case.attack in CONTROLS:
        return False
    if case.submission is not None:
        sources = [source[0].row for source in case.submission.sources]
        # The worst of several is chosen for a batch.
        return len(sources) > 1 or (sources[0].subject.batch_dependent and depends_on_batch(sources[0]))
    name = parse(case.attack)
    return name.estimator != "transfer" or name.third_party is not None or name.init is not None


def chosen_for_partitions(
    run: Run, cases: Sequence[AttackCase], *, together: bool = False
) -> list[AttackCase]:
    """The attacks of a run by which a word is settled if many batches confirm what few have shown.

    That is: a batch-dependent defence whose word is open, and an attack that could always be played and
    leaves, as far as few batches tell, no more than would settle it. One attack for each subject, budget and
    kind of attacked inputs: the lowest one, on draws that partitions do not use. Of attacks on one victim
    those that also ran on whole batches, where every example was perturbed.

    Args:
        together: whether words that do not hold at the error shared by all judgements are open, too.
    """
    by_key = {case.key: case for case in cases}
    words = [judgement.verdict.word for judgement in run.judgements]
    if together:
        words = words_together(run.judgements, run.results, run.manifest)
    chosen: dict[AttackCase, None] = {}
    for judgement, word in zip(run.judgements, words, strict=True):
        if word != VerdictWord.NOT_SETTLED or judgement.key.threat.inputs not in ("batch", "victim"):
            continue
        ensemble = next((row for row in run.results if row.key == judgement.key), None)
        if ensemble is None or ensemble.cell is None or not (ensemble.batch_dependent and ensemble.complete):
            continue
        played = [
            (float(row.cell.correct.mean()), by_key[row.key])
            for row in run.results
            if row.cell is not None and row.complete and row.key in by_key and _serves(row, ensemble)
            if not depends_on_batch(by_key[row.key])
            if row.key.threat == WHOLE_BATCH or _on_whole_batches(by_key[row.key]).key in by_key
        ]
        if played:
            least, case = min(played, key=lambda pair: pair[0])
            if _could_settle(judgement, least):
                chosen[case] = None
    return list(chosen)


def clean_in_few_batches(run: Run, cases: Sequence[AttackCase]) -> list[AttackCase]:
    """The clean rows of a run whose interval few batches leave wide: of batch-dependent defences.

    Partitions that are there already do not count: the same run chooses the same rows again.
    """
    clean = {case.key: case for case in cases if case.attack == CLEAN and case.subject.batch_dependent}
    rows = [row for row in run.results if row.key in clean and row.complete]
    return [clean[row.key] for row in rows if _uncertain(replace(row, partitions=None).interval())]


def _uncertain(interval: Interval | None) -> bool:
    return interval is not None and (
        max(interval.high - interval.estimate, interval.estimate - interval.low) > UNCERTAIN
    )


def _serves(row: CaseResult, ensemble: CaseResult) -> bool:
    """Whether a row is an attack that the attacker of ``ensemble`` has."""
    if row.key.subject != ensemble.key.subject:
        return False
    if ensemble.key.threat.one_victim:
        return row.key.threat == ONE_VICTIM and row.key.budget == ensemble.key.budget
    return row.key.threat == WHOLE_BATCH and row.key.budget == ensemble.key.budget


def _on_whole_batches(case: AttackCase) -> AttackCase:
    """The same attack on all inputs of a batch; through the base model it perturbs each by itself."""
    return replace(case, threat=WHOLE_BATCH)


def _could_settle(judgement: Judgement, left: float) -> bool:
    """Whether an open word would not be open if ``left`` were known exactly."""
    verdict = judgement.verdict
    if verdict.accuracy is None:
        return False
    if verdict.claim is not None and left < verdict.claim.value <= verdict.accuracy.high:
        return True
    base = 0.0 if verdict.gain is None else verdict.gain.second
    return left - base < verdict.bar


def partition_units(
    case: AttackCase, maker: UnitMaker, examples: int, enough: Callable[[int, int], int] | None = None
) -> list[Unit]:
    """The units that score a case in random partitions, or each of its victims in a random batch; one draw
    of the defence in each.

    Args:
        enough: how many partitions suffice, of as many as say anything new and as many batches in each; None
            for all of them.
    """
    victims = case.threat.one_victim
    base = [unit for unit in maker.units(_on_whole_batches(case) if victims else case) if unit.replicate == 0]
    groups = tuple(group for unit in base for group in unit.groups)
    attacked = {index for group in groups for index in group}
    batches = [b for b in batches_for(maker.config, case.subject, examples, 0) if b.index in attacked]
    scored = sum(batch.scored for batch in batches)
    wanted = (
        random_batches_wanted(scored) if victims else partitions_wanted(scored, len(batches), case.subject.k)
    )
    answered = 1 if victims else len(batches)
    cost = max(1, case.subject.images * answered // 3)  # a forward is a third of a gradient
    each = max(1, maker.images_per_unit // cost)
    if enough is not None:  # whole units, which are then the first of those for all
        wanted = min(wanted, -(-enough(wanted, answered) // each) * each)
    numbers = range(1, wanted + 1)
    return [
        maker.identified(
            replace(
                base[0],
                row=case,
                groups=groups,
                images=cost * len(numbers[start : start + each]),
                partitions=tuple(numbers[start : start + each]),
                attacked=() if case.attack in CONTROLS or case.submission is not None else tuple(base),
            )
        )
        for start in range(0, wanted, each)
    ]
