"""What is remembered of a verdict that nothing can change any more."""

from robustbench_coded.evaluation.planning.comparisons import Comparison
from robustbench_coded.evaluation.session.evaluation import Evaluation
from robustbench_coded.evaluation.session.schedule import Evidence, size_of
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import Stop


def stop_of(evaluation: Evaluation, evidence: Evidence, comparison: Comparison, setting: Case) -> Stop:
    """The verdict under one setting, the attacks and examples that it rests on, and what it cost."""
    plan, prepared = evaluation.plan, evaluation.prepared
    cases, size = plan.attacks[comparison], size_of(plan, evidence, comparison)
    ran = [case for case in cases if evidence.sizes.get(case, 0) >= size]
    shares = {case: evidence.shares[case] for case in ran if case in evidence.shares}
    examples = max((prepared.examples_planned(case, evidence.sizes[case]) for case in ran), default=0)
    if comparison.one_victim:  # others are the victims of random batches
        examples = max(
            [examples, *(evidence.random[case].batches for case in ran if case in evidence.random)]
        )
    units = {case: evaluation.units(case, evidence.sizes[case]) for case in ran}
    batches = {i for case in ran[:1] for unit in units[case] for group in unit.groups for i in group}
    worst = min(shares, key=lambda case: shares[case]).attack if shares else ""
    return Stop(
        case=setting.of_attack(worst),
        verdict=evidence.standing(setting).verdict,
        examples=examples,
        planned=prepared.setup.examples,
        batches=len(batches),
        images=sum(unit.images for own in units.values() for unit in own),
        images_planned=sum(plan.images(case, plan.sizes[-1]) for case in cases),
        attacks=tuple(case.attack for case in ran),
        skipped_attacks=tuple(dict.fromkeys(case.attack for case in cases if case not in evidence.sizes)),
    )
