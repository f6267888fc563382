"""Perturbs the batches of a group as a case's threat model and attack say."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attacks.naming import parse
from attacks.objective import Roles, co_batch, collateral, one_victim
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.evaluation.execution.answers import BaseOrNan
from robustbench_coded.evaluation.execution.groups import Group
from robustbench_coded.evaluation.execution.in_memory import is_plugin
from robustbench_coded.evaluation.execution.perturb import AttackInputs, AttackResult, perturb
from robustbench_coded.evaluation.execution.tally import Tally
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.execution.towards import OTHERS, Towards
from robustbench_coded.evaluation.execution.unit_facts import budget_of, query_budget_of, seed_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.batches import Batch, malicious_slots
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.schema.controls import CLEAN, RANDOM_SIGN


def attack_group(
    context: WorkerContext,
    unit: Unit,
    group: Group,
    x: Tensor,
    y: Tensor,
    known: int | None,
    tally: Tally,
) -> Tensor:
    """The group after the attack, ``[G, K, C, H, W]``.

    Args:
        x, y: its images and labels.
        known: the scoring draw that the attacker knows, if any.
        tally: gets what the attack cost.
    """
    case, seed = unit.row, seed_of(context, unit)
    if case.attack == CLEAN:
        return x
    roles = _victim_roles(case, group) if group.victims else batch_roles(case, group.batches, seed)
    if case.attack == RANDOM_SIGN:
        budget = budget_of(context, case, None if roles is None else roles.eps_scale.to(x.device))
        return budget.random_sign(x, _generators(group, seed, known or 0))
    return tally.attacked(perturbed(context, unit, group, x, y, known, roles))


def perturbed(
    context: WorkerContext,
    unit: Unit,
    group: Group,
    x: Tensor,
    y: Tensor,
    known: int | None,
    roles: Roles | None,
) -> AttackResult:
    """The attack of a unit on x [G, k, C, H, W] and y [G, k]; ``roles`` None where all inputs are alike."""
    case, seed = unit.row, seed_of(context, unit)
    budget = budget_of(context, case, None if roles is None else roles.eps_scale.to(x.device))
    name = parse(case.attack)
    defence, scored = context.attack_defence(case.subject), context.defence(case.subject)
    # Standard inference is attacked through itself only for others, who get the steps of all examples.
    standard = isinstance(defence, Standard)
    base = defence.model if isinstance(defence, Standard) else defence.base
    if name.target is not None:
        defence, scored = Towards(defence, name.target, base), Towards(scored, name.target)
        base, y = defence.base, torch.full_like(y, OTHERS)
    # Only user code may fail at inputs; an exception in this package is a bug.
    theirs = is_plugin(case.subject.spec)
    if theirs and base is not None:
        base = BaseOrNan(base, x.flatten(0, 1))
    target = Target(defence, group.k, seed, group.indices, x if theirs else None)
    inputs = AttackInputs(
        target=target,
        base=base,
        x=x,
        y=y,
        budget=budget,
        generators=_generators(group, seed, known or 0),
        known=None if known is None else target.known_draws(known),
        weights=None if roles is None else roles.weights.to(x.device),
        scored=None if group.victims else scored,
        query_budget=query_budget_of(context, case, len(group.victims) or y.numel()),
        max_images=context.setup.group_images,
        early_stop=context.setup.config.drop and not (standard and name.uses_base),
        raw_views=context.setup.config.peer_raw,
    )
    return perturb(name, inputs)


def batch_roles(case: AttackCase, batches: Sequence[Batch], seed: int) -> Roles | None:
    """Who moves and whose losses count, where these are not all inputs of a batch."""
    count = case.threat.malicious
    if count is None:
        return None
    malicious = torch.zeros(len(batches), batches[0].k, dtype=torch.bool)
    for position, batch in enumerate(batches):
        malicious[position, malicious_slots(batch, count, seed)] = True
    return collateral(malicious, free=case.threat.free)


def _victim_roles(case: AttackCase, group: Group) -> Roles:
    return (co_batch if case.threat.free else one_victim)(torch.tensor(group.victims), group.k)


def _generators(group: Group, seed: int, index: int) -> list[torch.Generator]:
    """A start for each batch. Victims of one batch must not start alike: the index tells them apart."""
    places = [slot + group.k * index for slot in group.victims] or [index] * len(group.batches)
    return [stream(seed, batch, "start", place) for batch, place in zip(group.indices, places, strict=True)]
