"""Runs a named attack against a target: ours through an estimator, a third-party one through a view."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attacks.adapters.third_party import run_third_party
from attacks.adapters.view import ThirdPartyView
from attacks.estimators import Estimator
from attacks.estimators.averaging import AveragingEstimator
from attacks.losses import margin_loss
from attacks.naming import SEARCHES, AttackName
from attacks.perturbation_budget import PerturbationBudget
from attacks.registry import attack_for, estimator_for
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.evaluation.execution.target import RawView, Target
from robustbench_coded.evaluation.execution.worker_context import Workbench
from robustbench_coded.evaluation.planning.cost import question_of
from robustbench_coded.models.tf32 import tf32

# Of the loss over the steps in a unit's metadata: sums over inputs, and how many inputs, by step.
TRACE = ("loss_", "inputs_")
TRACED_STEPS = 20
# Algorithms that leave an example alone once it is answered wrongly.
STOPPING_EARLY = ("pgd", "apgd-ce", "apgd-dlr", "apgd-t", *SEARCHES)


@dataclass(frozen=True)
class AttackInputs:
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
        query_budget: images that the attack may forward and differentiate in all; None for any number.
    """

    target: Target
    base: torch.nn.Module | None
    x: Tensor
    y: Tensor
    budget: PerturbationBudget
    generators: list[torch.Generator]
    known: Sequence[Any] | None = None
    weights: Tensor | None = None
    scored: Defence | None = None
    query_budget: int | None = None


@tf32(True)
def perturb(bench: Workbench, name: AttackName, inputs: AttackInputs, counts: Counter[str]) -> Tensor:
    """The perturbed inputs like ``inputs.x``; adds what it cost to ``counts``."""
    if name.third_party is not None:
        return _perturb_by_third_party(bench, name, inputs, counts)
    s, start = inputs, None
    if name.init is not None:
        begun: Counter[str] = Counter()
        start = perturb(bench, name.init, s, begun)
        counts.update({name: count for name, count in begun.items() if not name.startswith(TRACE)})
        if s.query_budget is not None:
            s = replace(s, query_budget=max(0, s.query_budget - begun["forwards"] - begun["backwards"]))
            if _first_question(name, s) > (s.query_budget or 0):
                return start
    estimator = estimator_for(
        name,
        s.target,
        base=s.base,
        known=s.known,
        weights=s.weights,
        generators=s.generators,
        max_images=bench.setup.group_images,
        query_budget=s.query_budget,
    )
    early_stop = s.target.independent and bench.setup.config.drop and name.algorithm in STOPPING_EARLY
    before = [generator.get_state() for generator in s.generators]
    adversarial = attack_for(name, early_stop=early_stop).perturb(
        s.x, s.y, estimator, s.budget, s.generators, start
    )
    if early_stop and s.scored is not None and name.estimator != "transfer":  # which never stops early
        for generator, state in zip(s.generators, before, strict=True):
            generator.set_state(state)
        adversarial = _confirmed(name, s, estimator, adversarial, start)
    counts["forwards"] += estimator.forwards
    counts["backwards"] += estimator.backwards
    if name.algorithm == "pgd" and name.rounds == 1 and not early_stop and s.weights is None:
        _note_losses(estimator, s.y.numel(), counts)
    return adversarial


def _note_losses(estimator: AveragingEstimator, inputs: int, counts: Counter[str]) -> None:
    """Adds the loss before some of the steps, summed over the inputs, as the attacker sees it."""
    losses = torch.stack(estimator.trace).tolist() if estimator.trace else []
    every = -(-len(losses) // TRACED_STEPS)
    for step in range(0, len(losses), max(1, every)):
        counts[f"{TRACE[0]}{step}"] += float(f"{losses[step]:.5g}") * inputs  # type: ignore[assignment]
        counts[f"{TRACE[1]}{step}"] += inputs


def _first_question(name: AttackName, s: AttackInputs) -> float:
    """Images that the least that an attack can ask costs."""
    t = s.target
    images = s.y.numel() if name.estimator == "transfer" else t.images(s.x)
    return question_of(name, images, s.y.shape[1], randomised=t.randomised, independent=t.independent)


def _confirmed(
    name: AttackName, s: AttackInputs, estimator: Estimator, adversarial: Tensor, start: Tensor | None
) -> Tensor:
    """Goes on with the examples that stopped too early, to the end.

    The copy of the model that attacks differentiate may see an example as broken that the original, which is
    scored, still answers rightly.
    """
    assert s.scored is not None
    if estimator.exhausted:
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
    again = attack_for(name, early_stop=False).perturb(
        s.x[early][None], s.y[early][None], estimator, s.budget, s.generators[:1], begun
    )
    adversarial = adversarial.clone()
    adversarial[early] = again[0]
    return adversarial


def _wrong(estimator: Estimator, x: Tensor, y: Tensor) -> Tensor:
    """Which of the inputs [n, C, H, W] the estimator's target misclassifies."""
    if not len(x):
        return torch.zeros_like(y, dtype=torch.bool)
    return estimator.value(x[None], y[None], margin_loss).logits[0].argmax(-1) != y


def _perturb_by_third_party(
    bench: Workbench, name: AttackName, s: AttackInputs, counts: Counter[str]
) -> Tensor:
    """Third-party attacks know nothing of groups: they attack one batch after the other."""
    found = []
    query_budget = None if s.query_budget is None else s.query_budget // len(s.generators)
    for position, generator in enumerate(s.generators):
        target = s.target.only(position)
        x, y = s.x[position], s.y[position]
        if bench.setup.config.peer_raw:
            view: ThirdPartyView = RawView(target, x, s.budget, query_budget, y)
        else:
            view = ThirdPartyView(target, x, s.budget, query_budget, y)
        result = run_third_party(name, view, x, y, s.budget, generator)
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


def alone(inputs: AttackInputs, slots: Tensor) -> AttackInputs:
    """The victims without their company, as batches of one: for attackers who ask the base model alone."""
    place = torch.arange(len(slots)), slots
    return replace(
        inputs,
        x=inputs.x[place][:, None],
        y=inputs.y[place][:, None],
        budget=replace(inputs.budget, eps_scale=None),
        weights=None,
    )
