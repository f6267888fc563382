"""Units of the threat models with several attacked inputs a batch: all, or some that harm the others."""

import numpy as np
import torch
from torch import Tensor

from attacks.naming import parse
from attacks.roles import Roles, collateral
from robustbench_coded.evaluation.execution.perturb import AttackInputs, perturb
from robustbench_coded.evaluation.execution.score import predictions
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.execution.unit_facts import (
    budget_of,
    draws_to_score,
    query_budget_of,
    seed_of,
    separate_attacks,
)
from robustbench_coded.evaluation.execution.worker_context import Workbench
from robustbench_coded.evaluation.planning.batches import Batch, malicious_slots, scored_slots
from robustbench_coded.evaluation.planning.plan import Row, Unit
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.runs.adversarials import EVERY
from robustbench_coded.runs.pictures import lowest


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
                _score(bench, unit, group, x, adversarial, y, "scoring", [draw], tally)
        else:
            adversarial = _attack(bench, unit, group, x, y, None, tally)
            _keep(tally, group, None, x, adversarial)
            for purpose, draws in draws_to_score(bench, row):
                margins = _score(bench, unit, group, x, adversarial, y, purpose, draws, tally)
            _picture(tally, group, margins, x, adversarial)


def _keep(tally: Tally, group: list[Batch], known: int | None, x: Tensor, adversarial: Tensor) -> None:
    if tally.adversarials is not None:
        tally.adversarials.add([b.index for b in group], [EVERY] * len(group), known, x, adversarial)


def _picture(tally: Tally, group: list[Batch], margins: np.ndarray, x: Tensor, adversarial: Tensor) -> None:
    """Offers pictures of the inputs with the lowest margins [draws, G, K]; filled-up slots are not scored."""
    if tally.pictures is None:
        return
    margin = margins.mean(axis=0)
    for position, batch in enumerate(group):
        slots = lowest(margin[position, : batch.scored])
        tally.pictures.add(
            np.asarray(batch.members)[slots],
            margin[position, slots],
            *(images[position, torch.from_numpy(slots)].cpu().numpy() for images in (x, adversarial)),
        )


def _attack(
    bench: Workbench, unit: Unit, group: list[Batch], x: Tensor, y: Tensor, known: int | None, tally: Tally
) -> Tensor:
    """Perturbs one group; ``known`` is the scoring draw that the attacker knows, if any."""
    row, seed = unit.row, seed_of(bench, unit)
    if row.attack == "clean":
        return x
    generators = [stream(seed, batch.index, "start", known or 0) for batch in group]
    roles = batch_roles(row, group, seed)
    budget = budget_of(bench, row, None if roles is None else roles.eps_scale.to(x.device))
    if row.attack == "random-sign":
        return budget.random_sign(x, generators)
    defence = bench.attack_defence(row.subject)
    target = Target(defence, group[0].k, seed, [batch.index for batch in group])
    draws = None if known is None else target.known_draws(known)
    scored = bench.defence(row.subject)
    inputs = AttackInputs(
        target,
        defence.base,
        x,
        y,
        budget,
        generators,
        known=draws,
        weights=None if roles is None else roles.weights.to(x.device),
        scored=scored,
        query_budget=query_budget_of(bench, row, y.numel()),
        max_images=bench.setup.group_images,
        early_stop=bench.setup.config.drop,
        raw_views=bench.setup.config.peer_raw,
    )
    return tally.attacked(perturb(parse(row.attack), inputs))


def batch_roles(row: Row, group: list[Batch], seed: int) -> Roles | None:
    """Who moves and whose losses count, where these are not all inputs."""
    count = row.threat.malicious
    if count is None:
        return None
    malicious = torch.zeros(len(group), group[0].k, dtype=torch.bool)
    for position, batch in enumerate(group):
        malicious[position, malicious_slots(batch, count, seed)] = True
    return collateral(malicious, free=row.threat.free)


def _score(
    bench: Workbench,
    unit: Unit,
    group: list[Batch],
    clean: Tensor,
    x: Tensor,
    y: Tensor,
    purpose: str,
    draws: list[int],
    tally: Tally,
) -> np.ndarray:
    """Scores one group; returns the margins [draws, G, K]."""
    labels, margins = predictions(
        bench.defence(unit.row.subject),
        x,
        y,
        clean=None if unit.row.attack == "clean" else clean,
        seed=seed_of(bench, unit),
        batches=[b.index for b in group],
        purpose=purpose,  # type: ignore[arg-type]
        draws=draws,
        group_images=bench.setup.group_images,
    )
    for position, batch in enumerate(group):
        slots = np.asarray(scored_slots(unit.row.threat, batch, seed_of(bench, unit)), dtype=np.int64)
        tally.add(
            purpose,
            draws,
            example=np.asarray(batch.members)[slots],
            batch=np.full(len(slots), batch.index),
            slot=slots,
            label=y[position].cpu().numpy()[slots],
            prediction=labels[:, position, slots],
            margin=margins[:, position, slots],
        )
    return margins
