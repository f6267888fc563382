"""Units of the threat models with one victim in each batch, among clean or free co-batched inputs."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from attacks.naming import parse
from attacks.roles import copies, free_company, one_victim
from robustbench_coded.evaluation.execution.perturb import AttackInputs, alone, perturb
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
from robustbench_coded.evaluation.planning.batches import Batch, Victim
from robustbench_coded.evaluation.planning.plan import Unit
from robustbench_coded.evaluation.planning.streams import stream


def run_victims(bench: Workbench, unit: Unit, tally: Tally) -> None:
    """Attacks and scores the unit's victims, each in a batch of its own."""
    row = unit.row
    batches = bench.batches(row.subject, unit.replicate)
    for victims in _groups(bench, unit):
        group = [batches[v.batch] for v in victims]
        x, y = bench.group(group)
        if row.threat.randomness == "known":
            for draw in range(separate_attacks(bench)):
                adversarial = _attack(bench, unit, victims, x, y, draw, tally)
                _keep(tally, victims, draw, x, adversarial)
                _score(bench, unit, victims, group, x, adversarial, y, "scoring", [draw], tally)
        else:
            adversarial = _attack(bench, unit, victims, x, y, None, tally)
            _keep(tally, victims, None, x, adversarial)
            for purpose, draws in draws_to_score(bench, row):
                _score(bench, unit, victims, group, x, adversarial, y, purpose, draws, tally)


def _keep(tally: Tally, victims: list[Victim], known: int | None, x: Tensor, adversarial: Tensor) -> None:
    if tally.adversarials is not None:
        slots = [v.slot for v in victims]
        tally.adversarials.add([v.batch for v in victims], slots, known, x, adversarial)


def _groups(bench: Workbench, unit: Unit) -> Iterator[list[Victim]]:
    """Victims whose batches fit into one forward."""
    size = max(1, bench.setup.group_images // unit.row.subject.images)
    for start in range(0, len(unit.victims), size):
        yield list(unit.victims[start : start + size])


def _attack(
    bench: Workbench,
    unit: Unit,
    victims: list[Victim],
    x: Tensor,
    y: Tensor,
    known: int | None,
    tally: Tally,
) -> Tensor:
    """Each victim's whole batch after the attack, [victims, K, C, H, W]."""
    row, seed, k = unit.row, seed_of(bench, unit), x.shape[1]
    name, free = parse(row.attack), row.threat.inputs == "co-batch"
    slots = torch.tensor([v.slot for v in victims])
    roles = (free_company if free else one_victim)(slots, k)
    defence = bench.attack_defence(row.subject)
    target = Target(defence, k, seed, [v.batch for v in victims])
    inputs = AttackInputs(
        target=target,
        base=defence.base,
        x=x,
        y=y,
        budget=budget_of(bench, row, roles.eps_scale.to(x.device)),
        # Victims of one batch must not start alike: the stream's index tells them apart.
        generators=[stream(seed, v.batch, "start", v.slot + k * (known or 0)) for v in victims],
        known=None if known is None else target.known_draws(known),
        weights=roles.weights.to(x.device),
        query_budget=query_budget_of(bench, row, len(victims)),
        max_images=bench.setup.group_images,
        early_stop=bench.setup.config.drop,
        raw_views=bench.setup.config.peer_raw,
    )
    if name.estimator != "transfer":
        return tally.attacked(perturb(name, inputs))
    # The base model answers input by input: the victim is attacked alone. The best that free co-batched
    # inputs can do with the result is to be copies of it.
    found = tally.attacked(perturb(name, alone(inputs, slots)))[:, 0]
    if free:
        return copies(found, k)
    adversarial = x.clone()
    adversarial[torch.arange(len(victims)), slots] = found
    return adversarial


def _score(
    bench: Workbench,
    unit: Unit,
    victims: list[Victim],
    group: list[Batch],
    clean: Tensor,
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
        clean=clean,
        seed=seed_of(bench, unit),
        batches=[v.batch for v in victims],
        purpose=purpose,  # type: ignore[arg-type]
        draws=draws,
        group_images=bench.setup.group_images,
    )
    slots = np.asarray([v.slot for v in victims])
    which = np.arange(len(victims))
    tally.add(
        purpose,
        draws,
        example=np.asarray([b.members[v.slot] for b, v in zip(group, victims, strict=True)]),
        batch=np.asarray([v.batch for v in victims]),
        slot=slots,
        label=y.cpu().numpy()[which, slots],
        prediction=labels[:, which, slots],
        margin=margins[:, which, slots],
    )
