"""Runs a named attack against a target: ours through an estimator, a peer's through a view."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attacks.adapters.peer import run_peer
from attacks.adapters.view import PeerView
from attacks.budget import Budget
from attacks.estimators import Estimator
from attacks.estimators.averaging import AveragingEstimator
from attacks.losses import margin
from attacks.naming import SEARCHES, AttackName
from attacks.registry import attack_for, estimator_for
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.evaluation.cost import question_of
from robustbench_coded.evaluation.target import RawView, Target
from robustbench_coded.evaluation.workbench import Workbench
from robustbench_coded.models.tf32 import tf32

# Of the loss over the steps in a unit's metadata: sums over inputs, and how many inputs, by step.
TRACE = ("loss_", "inputs_")
TRACED_STEPS = 20
# Algorithms that leave an example alone once it is answered wrongly.
DROPPING = ("pgd", "apgd-ce", "apgd-dlr", "apgd-t", *SEARCHES)


@dataclass(frozen=True)
class Situation:
    """What an attacker faces in one group of batches.

    Attributes:
        target: the defence, as it may be queried.
        base: the model underneath, None where there is none.
        x, y: clean inputs [G, K, C, H, W] in [0, 1] and labels [G, K].
        budget: where perturbed inputs must lie.
        generators: a CPU generator a batch.
        known: the draw of each batch that the attacker knows, if any.
        weights: [G, K], whose losses count; None for all.
        scored: the defence that will be scored, where it is another copy than the target's; for examples on
            which an attack stops early.
        limit: images forwarded and differentiated that the attack may cost in all; None for no limit.
    """

    target: Target
    base: torch.nn.Module | None
    x: Tensor
    y: Tensor
    budget: Budget
    generators: list[torch.Generator]
    known: Sequence[Any] | None = None
    weights: Tensor | None = None
    scored: Defence | None = None
    limit: int | None = None


@tf32(True)
def perturb(bench: Workbench, name: AttackName, situation: Situation, counts: Counter[str]) -> Tensor:
    """The perturbed inputs like ``situation.x``; adds what it cost to ``counts``."""
    if name.peer is not None:
        return _perturb_by_peer(bench, name, situation, counts)
    s, start = situation, None
    if name.init is not None:
        begun: Counter[str] = Counter()
        start = perturb(bench, name.init, s, begun)
        counts.update({name: count for name, count in begun.items() if not name.startswith(TRACE)})
        if s.limit is not None:
            s = replace(s, limit=max(0, s.limit - begun["forwards"] - begun["backwards"]))
            if _first_question(name, s) > (s.limit or 0):
                return start
    estimator = estimator_for(
        name,
        s.target,
        base=s.base,
        known=s.known,
        weights=s.weights,
        generators=s.generators,
        max_images=bench.setup.group_images,
        limit=s.limit,
    )
    drop = s.target.independent and bench.setup.config.drop and name.algorithm in DROPPING
    before = [generator.get_state() for generator in s.generators]
    adversarial = attack_for(name, drop=drop).perturb(s.x, s.y, estimator, s.budget, s.generators, start)
    if drop and s.scored is not None and name.estimator != "transfer":  # which never stops early
        for generator, state in zip(s.generators, before, strict=True):
            generator.set_state(state)
        adversarial = _confirmed(name, s, estimator, adversarial, start)
    counts["forwards"] += estimator.forwards
    counts["backwards"] += estimator.backwards
    if name.algorithm == "pgd" and name.rounds == 1 and not drop and s.weights is None:
        _note_losses(estimator, s.y.numel(), counts)
    return adversarial


def _note_losses(estimator: AveragingEstimator, inputs: int, counts: Counter[str]) -> None:
    """Adds the loss before some of the steps, summed over the inputs, as the attacker sees it."""
    losses = torch.stack(estimator.trace).tolist() if estimator.trace else []
    every = -(-len(losses) // TRACED_STEPS)
    for step in range(0, len(losses), max(1, every)):
        counts[f"{TRACE[0]}{step}"] += float(f"{losses[step]:.5g}") * inputs  # type: ignore[assignment]
        counts[f"{TRACE[1]}{step}"] += inputs


def _first_question(name: AttackName, s: Situation) -> float:
    """Images that the least that an attack can ask costs."""
    t = s.target
    images = s.y.numel() if name.estimator == "transfer" else t.images(s.x)
    return question_of(name, images, s.y.shape[1], randomised=t.randomised, independent=t.independent)


def _confirmed(
    name: AttackName, s: Situation, estimator: Estimator, adversarial: Tensor, start: Tensor | None
) -> Tensor:
    """Goes on with the examples that were dropped too early, to the end.

    The copy of the model that attacks differentiate may see an example as broken that the original, which is
    scored, still answers rightly.
    """
    assert s.scored is not None
    if estimator.spent:
        return adversarial
    with torch.no_grad():
        answers = s.scored.logits(adversarial.flatten(0, 1), None).argmax(-1).view_as(s.y)
    early = answers == s.y
    # Of the examples that stand, those that stood for the copy, too, have had all their steps.
    early[early.clone()] = _wrong(estimator, adversarial[early], s.y[early])
    if not bool(early.any()):
        return adversarial
    if start is None and name.algorithm not in SEARCHES:  # the start that these examples had
        start = s.budget.uniform(s.x, s.generators)
    begun = None if start is None else start[early][None]
    again = attack_for(name, drop=False).perturb(
        s.x[early][None], s.y[early][None], estimator, s.budget, s.generators[:1], begun
    )
    adversarial = adversarial.clone()
    adversarial[early] = again[0]
    return adversarial


def _wrong(estimator: Estimator, x: Tensor, y: Tensor) -> Tensor:
    """Which of the inputs [n, C, H, W] the estimator's target misclassifies."""
    if not len(x):
        return torch.zeros_like(y, dtype=torch.bool)
    return estimator.value(x[None], y[None], margin).logits[0].argmax(-1) != y


def _perturb_by_peer(bench: Workbench, name: AttackName, s: Situation, counts: Counter[str]) -> Tensor:
    """A peer knows nothing of groups: it attacks one batch after the other."""
    found = []
    limit = None if s.limit is None else s.limit // len(s.generators)
    for position, generator in enumerate(s.generators):
        target = s.target.only(position)
        x, y = s.x[position], s.y[position]
        if bench.setup.config.peer_raw:
            view: PeerView = RawView(target, x, s.budget, limit, y)
        else:
            view = PeerView(target, x, s.budget, limit, y)
        result = run_peer(name, view, x, y, s.budget, generator)
        found.append(result.x)
        counts["forwards"] += view.forwards
        counts["backwards"] += view.backwards
        if math.isnan(result.verdict):
            counts["peer_stopped"] += len(x)
        else:
            counts["peer_standing"] += round(result.verdict * len(x))
            counts["peer_inputs"] += len(x)
        counts["peer_filled"] += int(view.filled)
    return torch.stack(found)


def alone(situation: Situation, slots: Tensor) -> Situation:
    """The victims without their company, as batches of one: for attackers who ask the base model alone."""
    place = torch.arange(len(slots)), slots
    return replace(
        situation,
        x=situation.x[place][:, None],
        y=situation.y[place][:, None],
        budget=replace(situation.budget, reach=None),
        weights=None,
    )
