"""Runs a named attack against a target: ours through an estimator, a third-party one through a view."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from msgspec import structs
from torch import Tensor

from attacks.adapters import plugin
from attacks.adapters.third_party import ThirdPartyView, like, run_third_party
from attacks.attack import Attack, Package, Runnable
from attacks.balls import moved
from attacks.estimators import Estimator, FreshDraws, estimator_for
from attacks.gradients import NoGradient
from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.perturbation_transforms import outside, projected
from attacks.solver import Solver, solver_for, wide
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.evaluation.execution.target import Target, answers_or_nan
from robustbench_coded.models.prepare import tf32


@dataclass(frozen=True)
class AttackInputs:
    """The inputs of an attack on one group of batches.

    Attributes:
        target: the defence, as the attack may query it.
        base: the base model, None if there is none.
        x, y: clean inputs [G, K, C, H, W] in [0, 1], of any floating type, and labels [G, K].
        budget: where perturbed inputs must lie.
        generators: a CPU generator a batch.
        known: the draw of each batch that the attacker knows, if any.
        weights: [G, K], whose losses count; None for all.
        scored: the defence that will be scored, if attacks differentiate a copy of it; examples on which an
            attack stops early are confirmed on it.
        max_images: images that one forward may hold.
        early_stop: whether attacks may stop on misclassified examples of a per-example target.
        start: where an attack that starts from no other one begins, like x; None for its own start.
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
    max_images: int = 512
    early_stop: bool = True
    start: Tensor | None = None


class AttackResult(NamedTuple):
    """Attributes:
    x: perturbed inputs, like the clean ones.
    counts: images forwarded and differentiated; inputs by the level at which operators were relaxed, as
        ``relaxed_LEVEL``; what a third-party package reports of its own success; as ``faulty`` how many
        results were no perturbed inputs, and are the clean ones.
    """

    x: Tensor
    counts: Counter[str]


@tf32(True)
def perturb(attack: Runnable, inputs: AttackInputs) -> AttackResult:
    """Runs the named attack; one that continues from another attack runs that one first.

    Attacks compute in float32 at least, and the result has the type of the clean inputs. Distances of all
    attacks are measured here: a result that is not finite, or outside ball or box, is counted as ``faulty``,
    and the clean input takes its place. Where the defence cannot be differentiated, the attack begins again
    with smooth operators (``relaxed-``), and its counts have the number of inputs as ``without_gradient``.

    Raises:
        NoGradient: an attack of another package, or one that differentiates the base model, cannot do so.
    """
    x = inputs.x.to(torch.promote_types(inputs.x.dtype, torch.float32))
    adversarial, counts = _unchecked(attack, replace(inputs, x=x))
    if x.dtype != inputs.x.dtype:
        adversarial = moved(inputs.x, adversarial - x)
    faulty = outside(adversarial, inputs.x, inputs.budget)
    if count := int(faulty.sum()):
        counts["faulty"] += count
        adversarial = torch.where(wide(faulty), inputs.x, adversarial)
    return AttackResult(adversarial, counts)


def _unchecked(attack: Runnable, inputs: AttackInputs) -> AttackResult:
    before = [generator.get_state() for generator in inputs.generators]
    try:
        return _perturbed(attack, inputs)
    except NoGradient:
        if isinstance(attack, Package) or attack.relaxed or not attack.differentiates:
            raise
    for generator, state in zip(inputs.generators, before, strict=True):
        generator.set_state(state)
    result = _perturbed(structs.replace(attack, relaxed=True), inputs)
    result.counts["without_gradient"] += inputs.y.numel()
    return result


def _perturbed(attack: Runnable, inputs: AttackInputs) -> AttackResult:
    if isinstance(attack, Package):
        own = plugin.load(attack) if attack.package == "plugin" else None
        if own is not None and hasattr(own, "perturb"):
            return _perturb_by_plugin(attack, own, inputs)
        return _perturb_by_third_party(attack, inputs, own)
    s, start, counts = inputs, inputs.start, Counter[str]()
    if attack.init is not None:
        begun = perturb(attack.init, s)
        start, counts = begun.x, begun.counts
    estimator = estimator_for(
        attack, s.target, base=s.base, known=s.known, weights=s.weights, max_images=s.max_images
    )
    blind = attack.knows == "transfer"  # it never stops early
    early_stop = s.early_stop and s.target.independent and attack.declared.may_stop
    before = [generator.get_state() for generator in s.generators]
    adversarial = solver_for(attack, early_stop=early_stop).perturb(
        s.x, s.y, estimator, s.budget, s.generators, start
    )
    if early_stop and s.scored is not None and not blind:
        for generator, state in zip(s.generators, before, strict=True):
            generator.set_state(state)
        adversarial = _confirmed(attack, s, estimator, adversarial, start)
    estimator.check_losses()
    counts["forwards"] += estimator.forwards
    counts["backwards"] += estimator.backwards
    if estimator.relaxation is not None:
        counts[f"relaxed_{estimator.relaxation.level}"] += s.y.numel()
    return AttackResult(adversarial, counts)


def _confirmed(
    attack: Attack, s: AttackInputs, estimator: Estimator, adversarial: Tensor, start: Tensor | None
) -> Tensor:
    """Attacks the examples that stopped too early once more, without early stops.

    The copy of the model that attacks differentiate may misclassify an example that the original, which is
    scored, still classifies correctly.
    """
    assert s.scored is not None
    scored = s.scored

    def ask(x: Tensor, draws: Sequence[Any]) -> Tensor:
        return scored.logits(x.flatten(0, 1), None).unflatten(0, x.shape[:2])

    with torch.no_grad(), tf32(False):  # as it is scored
        logits = answers_or_nan(ask, adversarial, [None] * len(s.x), s.x, independent=True)
    early = (logits.argmax(-1) == s.y) & logits.isfinite().all(-1)
    # Examples that are correct under the copy, too, have had all their steps.
    early[early.clone()] = _wrong(estimator, adversarial[early], s.y[early])
    if not bool(early.any()):
        return adversarial
    if start is None and attack.declared.family not in ("search", "decision"):  # these examples' start
        start = s.budget.around(s.x).uniform(s.generators)
    begun = None if start is None else start[early][None]
    second = solver_for(attack, early_stop=False).perturb(
        s.x[early][None], s.y[early][None], estimator, s.budget, s.generators[:1], begun
    )
    adversarial = adversarial.clone()
    adversarial[early] = second[0]
    return adversarial


def _wrong(estimator: Estimator, x: Tensor, y: Tensor) -> Tensor:
    """Which of the inputs [n, C, H, W] the estimator's target misclassifies."""
    if not len(x):
        return torch.zeros_like(y, dtype=torch.bool)
    return estimator.value(x[None], y[None], margin_loss).logits[0].argmax(-1) != y


def _perturb_by_plugin(attack: Package, solver: Solver, s: AttackInputs) -> AttackResult:
    """A class of the user's own, which speaks our attacks' protocol; each query shows it a fresh draw."""
    estimator = FreshDraws(s.target, max_images=s.max_images, weights=s.weights)
    adversarial = like(attack, solver.perturb(s.x, s.y, estimator, s.budget, s.generators, None), s.x)
    estimator.check_losses()
    counts = Counter(forwards=estimator.forwards, backwards=estimator.backwards)
    return AttackResult(projected(adversarial, s.x, s.budget), counts)


def _perturb_by_third_party(attack: Package, s: AttackInputs, own: Any) -> AttackResult:
    """Third-party attacks do not know groups: they attack one batch after the other."""
    tensors, counts = [], Counter[str]()
    for position, generator in enumerate(s.generators):
        target = s.target.only(position)
        x, y = s.x[position], s.y[position]
        view = ThirdPartyView(target, x, s.budget)
        tensors.append(run_third_party(attack, view, x, y, s.budget, generator, own))
        counts["forwards"] += view.forwards
        counts["backwards"] += view.backwards
    return AttackResult(torch.stack(tensors), counts)
