"""How much of an attack's cost is left where it ends at the first wrong answer.

likely_shares(prepared, rows) -> {row: share of its images, from 0 to 1}
fallen(prepared, rows)        -> {(checkpoint, budget)}: nothing is left there
"""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch

from attacks.catalogue import CATALOGUE
from attacks.naming import parse
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.defences.published.registry import PREFIX
from robustbench_coded.evaluation.execution.perturb import AttackInputs, perturb
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.cost import queries_of
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.schema.case import BudgetKey
from robustbench_coded.schema.controls import CONTROLS, STANDARD

PILOT = "pgd-10"
PILOT_IMAGES = 32
# Queries that an example costs which falls, about.
FALLS_AFTER = 6

# What pilots found, by subject and budget: an evaluation in rounds asks before each of them.
_found: WeakKeyDictionary[WorkerContext, dict[tuple[Subject, BudgetKey], float]] = WeakKeyDictionary()


def likely_shares(prepared: PreparedEvaluation, rows: Iterable[AttackCase]) -> dict[AttackCase, float]:
    """Shares of the rows whose attacks stop early; other rows cost all that they say.

    A short attack on a few images tells how many examples of a subject keep an attack busy to its end.
    """
    standing = _found.setdefault(prepared.context, {})
    found = {}
    for row in rows:
        if not _stops_early(prepared, row):
            continue
        key = (row.subject, row.budget)
        if key not in standing:
            standing[key] = _standing(prepared, row)
        fallen = min(1.0, FALLS_AFTER / max(1, queries_of(parse(row.attack), randomised=False)[0]))
        found[row] = standing[key] + (1 - standing[key]) * fallen
    return found


def fallen(prepared: PreparedEvaluation, rows: Iterable[AttackCase]) -> set[tuple[str, BudgetKey]]:
    """The checkpoints and budgets at which the short attack left standard inference nothing right."""
    likely_shares(prepared, rows)
    found = _found.get(prepared.context, {})
    return {
        (subject.checkpoint, budget)
        for (subject, budget), share in found.items()
        if share == 0 and subject.spec == STANDARD
    }


def _stops_early(prepared: PreparedEvaluation, row: AttackCase) -> bool:
    if row.attack in CONTROLS or row.submission is not None:
        return False
    # Code of the user is only attacked by workers, which have a time limit.
    if row.subject.spec != STANDARD and not row.subject.spec.startswith(PREFIX):
        return False
    name = parse(row.attack)
    known = name.third_party is None and name.estimator == "fresh" and CATALOGUE[name.algorithm].stops_early
    return known and row.subject.independent and prepared.setup.config.drop


def _standing(prepared: PreparedEvaluation, row: AttackCase) -> float:
    """The share of a few examples that the pilot leaves right; 1 where it fails."""
    context, config = prepared.context, prepared.setup.config
    images = range(min(PILOT_IMAGES, prepared.setup.examples))
    x, y = (tensor.to(context.device)[None] for tensor in context.data.batch(images))
    deviation = None
    if row.eps_space == "normalized":
        deviation = context.checkpoint(row.subject.checkpoint).deviation
    budget = PerturbationBudget(row.norm, row.eps, row.eps_space, deviation)  # type: ignore[arg-type]
    defence = context.attack_defence(row.subject)
    target = Target(defence, len(images), config.seed, [-1])
    generators = [stream(config.seed, -1, "selftest")]
    given = AttackInputs(target=target, base=None, x=x, y=y, budget=budget, generators=generators)
    try:
        found = perturb(parse(PILOT), given)
        with torch.no_grad():
            right = target.logits(found.x, [None]).argmax(-1) == y
    except Exception:  # what fails will fail as a unit, with all that belongs to it
        return 1.0
    return float(right.double().mean())
