"""Units of the threat models in which all inputs of a batch are the attacker's."""

import numpy as np
from torch import Tensor

from attacks.naming import parse
from robustbench_coded.evaluation.batches import Batch
from robustbench_coded.evaluation.perturb import Situation, perturb
from robustbench_coded.evaluation.plan import Unit
from robustbench_coded.evaluation.score import predictions
from robustbench_coded.evaluation.streams import stream
from robustbench_coded.evaluation.tally import Tally
from robustbench_coded.evaluation.target import Target
from robustbench_coded.evaluation.unit_facts import budget_of, draws_to_score, seed_of, separate_attacks
from robustbench_coded.evaluation.workbench import Workbench
from robustbench_coded.runs.adversarials import EVERY


def run_batches(bench: Workbench, unit: Unit, tally: Tally) -> None:
    """Attacks and scores the unit's groups of batches."""
    row = unit.row
    batches = bench.batches(row.subject, unit.replicate)
    for indices in unit.groups:
        group = [batches[i] for i in indices]
        x, y = bench.group(group)
        if row.threat.randomness == "known":
            for draw in range(separate_attacks(bench)):
                adversarial = _attack(bench, unit, group, x, y, draw, tally)
                _keep(tally, group, draw, x, adversarial)
                _score(bench, unit, group, adversarial, y, "scoring", [draw], tally)
        else:
            adversarial = _attack(bench, unit, group, x, y, None, tally)
            _keep(tally, group, None, x, adversarial)
            for purpose, draws in draws_to_score(bench, row):
                _score(bench, unit, group, adversarial, y, purpose, draws, tally)


def _keep(tally: Tally, group: list[Batch], known: int | None, x: Tensor, adversarial: Tensor) -> None:
    if tally.adversarials is not None:
        tally.adversarials.add([b.index for b in group], [EVERY] * len(group), known, x, adversarial)


def _attack(
    bench: Workbench, unit: Unit, group: list[Batch], x: Tensor, y: Tensor, known: int | None, tally: Tally
) -> Tensor:
    """Perturbs one group; ``known`` is the scoring draw that the attacker knows, if any."""
    row, seed = unit.row, seed_of(bench, unit)
    if row.attack == "clean":
        return x
    generators = [stream(seed, batch.index, "start", known or 0) for batch in group]
    budget = budget_of(bench, row)
    if row.attack == "random-sign":
        return budget.random_sign(x, generators)
    defence = bench.attack_defence(row.subject)
    target = Target(defence, group[0].k, seed, [batch.index for batch in group])
    draws = None if known is None else target.known_draws(known)
    scored = bench.defence(row.subject)
    situation = Situation(target, defence.base, x, y, budget, generators, known=draws, scored=scored)
    return perturb(bench, parse(row.attack), situation, tally.counts)


def _score(
    bench: Workbench,
    unit: Unit,
    group: list[Batch],
    x: Tensor,
    y: Tensor,
    purpose: str,
    draws: list[int],
    tally: Tally,
) -> None:
    labels, margins = predictions(
        bench.defence(unit.row.subject),
        x,
        y,
        seed=seed_of(bench, unit),
        batches=[b.index for b in group],
        purpose=purpose,  # type: ignore[arg-type]
        draws=draws,
        group_images=bench.setup.group_images,
    )
    for position, batch in enumerate(group):
        slots = np.arange(batch.scored)
        tally.add(
            purpose,
            draws,
            example=np.asarray(batch.members)[slots],
            batch=np.full(batch.scored, batch.index),
            slot=slots,
            label=y[position, : batch.scored].cpu().numpy(),
            prediction=labels[:, position, : batch.scored],
            margin=margins[:, position, : batch.scored],
        )
