"""Runs a named attack against a target: ours through an estimator, a third-party one through a view; and
``robustbench_coded.attack``, one named attack on one batch of images.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from attacks.adapters import plugin
from attacks.adapters.third_party import ThirdPartyView, run_third_party
from attacks.attack import Attack
from attacks.attack_name import AttackName
from attacks.catalogue import CATALOGUE, refuse_norm
from attacks.estimators import Estimator, FreshDraws
from attacks.gradients import NoGradient
from attacks.losses import margin_loss
from attacks.naming import parse
from attacks.objective import Objective
from attacks.perturbation_budget import Norm, PerturbationBudget
from attacks.presets import LAST_RESORT, RELAXED
from attacks.registry import attack_for, estimator_for
from attacks.relaxation import Relaxation
from robustbench_coded.data.arrays import labels, pixels
from robustbench_coded.defences.memory import in_evaluation_mode
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.protocol import Defence, misshapen, too_few_classes
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.errors import InputError, described
from robustbench_coded.evaluation.execution.target import OTHERS, RawView, Target, Towards, answers_or_nan
from robustbench_coded.evaluation.options.option import radius
from robustbench_coded.evaluation.planning import plan, streams
from robustbench_coded.models.prepare import tf32


@dataclass(frozen=True)
class AttackInputs:
    """What an attack on one group of batches is given.

    Attributes:
        target: the defence, as the attack may query it.
        base: the base model, None if there is none.
        x, y: clean inputs [G, K, C, H, W] in [0, 1] and labels [G, K].
        budget: where perturbed inputs must lie.
        generators: a CPU generator a batch.
        known: the draw of each batch that the attacker knows, if any.
        weights: [G, K], whose losses count; None for all.
        scored: the defence that will be scored, if attacks differentiate a copy of it; examples on which an
            attack stops early are confirmed on it.
        query_budget: images that the attack may forward and differentiate in all; None for any number.
        max_images: images that one forward may hold.
        early_stop: whether attacks may stop on misclassified examples of a per-example target.
        start: where an attack that starts from no other one begins, like x; None for its own start.
        raw_views: whether third-party attacks may compose batches themselves (``--peer-raw``).
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
    max_images: int = 512
    early_stop: bool = True
    start: Tensor | None = None
    raw_views: bool = False


class AttackResult(NamedTuple):
    """Attributes:
    x: perturbed inputs, like the clean ones.
    counts: images forwarded and differentiated; what a third-party package reports of its own success.
    losses: mean loss before each step, scalars; empty for attacks whose steps are not comparable.
    """

    x: Tensor
    counts: Counter[str]
    losses: Sequence[Tensor] = ()


@tf32(True)
def perturb(name: AttackName, inputs: AttackInputs) -> AttackResult:
    """Runs the named attack; one that continues from another attack runs that one first.

    Where the defence cannot be differentiated, the attack begins again with smooth operators (``relaxed-``),
    and its counts have the number of inputs as ``without_gradient``.

    Raises:
        NoGradient: an attack of another package, or one that differentiates the base model, cannot do so.
    """
    before = [generator.get_state() for generator in inputs.generators]
    try:
        return _perturbed(name, inputs)
    except NoGradient:
        if name.relaxed or name.third_party is not None or not name.differentiates:
            raise
    for generator, state in zip(inputs.generators, before, strict=True):
        generator.set_state(state)
    result = _perturbed(replace(name, relaxed=True), inputs)
    result.counts["without_gradient"] += inputs.y.numel()
    return result


def _perturbed(name: AttackName, inputs: AttackInputs) -> AttackResult:
    if name.third_party == "plugin" and hasattr(own := plugin.load(name), "perturb"):
        return _perturb_by_plugin(name, own, inputs)
    if name.third_party is not None:
        return _perturb_by_third_party(name, inputs)
    s, start, counts = inputs, inputs.start, Counter[str]()
    if name.init is not None:
        begun = perturb(name.init, s)
        start, counts = begun.x, begun.counts
        if s.query_budget is not None:
            s = replace(s, query_budget=max(0, s.query_budget - counts["forwards"] - counts["backwards"]))
            t = s.target
            images = s.y.numel() if name.estimator == "transfer" else t.images(s.x)
            first = plan.images_per_query(name, images, randomised=t.randomised, independent=t.independent)
            if first > (s.query_budget or 0):
                return begun._replace(losses=())
    estimator = estimator_for(
        name,
        s.target,
        base=s.base,
        known=s.known,
        weights=s.weights,
        max_images=s.max_images,
        query_budget=s.query_budget,
    )
    blind = name.estimator in ("transfer", "surrogate")  # these never stop early
    algorithm = CATALOGUE.get(name.algorithm)
    stops = algorithm is not None and algorithm.stops_early
    early_stop = s.early_stop and s.target.independent and stops
    before = [generator.get_state() for generator in s.generators]
    adversarial = attack_for(name, early_stop=early_stop).perturb(
        s.x, s.y, estimator, s.budget, s.generators, start
    )
    if early_stop and s.scored is not None and not blind:
        for generator, state in zip(s.generators, before, strict=True):
            generator.set_state(state)
        adversarial = _confirmed(name, s, estimator, adversarial, start)
    estimator.check_losses()
    counts["forwards"] += estimator.forwards
    counts["backwards"] += estimator.backwards
    comparable = name.traits.plain and name.rounds == 1 and not early_stop and s.weights is None
    return AttackResult(adversarial, counts, estimator.trace if comparable else ())


def _confirmed(
    name: AttackName, s: AttackInputs, estimator: Estimator, adversarial: Tensor, start: Tensor | None
) -> Tensor:
    """Attacks the examples that stopped too early once more, without early stops.

    The copy of the model that attacks differentiate may misclassify an example that the original, which is
    scored, still classifies correctly.
    """
    assert s.scored is not None
    if estimator.exhausted:
        return adversarial
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
    if start is None and name.family not in ("search", "decision"):  # these examples' start
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


def _perturb_by_plugin(name: AttackName, attack: Attack, s: AttackInputs) -> AttackResult:
    """A class of the user's own, which speaks our attacks' protocol; each query shows it a fresh draw."""
    estimator = FreshDraws(s.target, max_images=s.max_images, objective=Objective(s.weights))
    estimator.query_budget = s.query_budget
    found = attack.perturb(s.x, s.y, estimator, s.budget, s.generators, None)
    estimator.check_losses()
    inside = s.budget.project(plugin.checked(name, found, s.x), s.x)
    return AttackResult(inside, Counter(forwards=estimator.forwards, backwards=estimator.backwards))


def _perturb_by_third_party(name: AttackName, s: AttackInputs) -> AttackResult:
    """Third-party attacks do not know groups: they attack one batch after the other."""
    found, counts = [], Counter[str]()
    query_budget = None if s.query_budget is None else s.query_budget // len(s.generators)
    for position, generator in enumerate(s.generators):
        target = s.target.only(position)
        x, y = s.x[position], s.y[position]
        make = RawView if s.raw_views else ThirdPartyView
        view: ThirdPartyView = make(target, x, s.budget, query_budget, y)
        result = run_third_party(name, view, x, y, s.budget, generator)
        found.append(result.x)
        counts["forwards"] += view.forwards
        counts["backwards"] += view.backwards
        if math.isnan(result.verdict):
            counts["third_party_stopped"] += len(x)
        else:
            counts["third_party_standing"] += round(result.verdict * len(x))
            counts["third_party_inputs"] += len(x)
        counts["third_party_filled"] += int(view.filled)
    return AttackResult(torch.stack(found), counts)


Images = TypeVar("Images")


def attack(
    model: Any,
    x: Images,
    y: Any,
    name: str,
    eps: float | str,
    *,
    norm: Norm = "linf",
    seed: int = 0,
    target: int | Tensor | None = None,
) -> Images:
    """Perturbs one batch by a named attack, as an evaluation perturbs its first batch.

    A model whose answer has no graph is attacked through ``relaxed-`` (docs/your-defence.md), named or not.

    Args:
        model: a module, which is asked in evaluation mode, or a function from [B, C, H, W] to logits
            [B, classes], with its normalisation inside, that answers input by input (it may sample); or any
            defence (docs/your-defence.md).
        x: clean inputs [B, C, H, W], [B, H, W, C] or [B, H, W], floats in [0, 1] or uint8, a tensor on any
            device or an array. A batch-dependent defence answers them as one batch.
        y: true classes [B], integers.
        name: one attack, as ``csrobust list attacks`` prints it: ``"pgd-10"``, ``"eot10-pgd-20"`` ...
        eps: radius in units of pixels in [0, 1]: 8/255 or "8/255", never 8; in l0 how many pixels may change.
        norm: "linf", "l2", "l1" or "l0", in which all channels of a pixel together count as one.
        seed: decides the random start and the attacker's draws.
        target: the class that the inputs are to be answered with, one for all, or [B] for a defence that
            answers input by input; None for any but ``y``.

    Returns:
        Perturbed inputs like ``x``, of its shape, device and type; float32 in [0, 1] for uint8.

    Raises:
        ValueError: an argument is none of the above, or the attack needs a gradient and there is none, even
            with smooth operators; the message says which.
    """
    with in_evaluation_mode(_training(model)):
        try:
            images = _images(x, model)
            classes = torch.from_numpy(labels(y, len(images), "y")).to(images.device)
            size = radius(eps, "eps") if isinstance(eps, str) else eps
            defence = _as_defence(model, images, int(classes.max()))
        except InputError as error:
            raise ValueError(str(error)) from None
        attack_name, budget = parse(name), PerturbationBudget(norm, size)
        refuse_norm(attack_name, norm)
        if target is None:
            perturbed = _attacked(defence, images, classes, attack_name, budget, seed)
        else:
            wanted = torch.as_tensor(target).to(classes)
            perturbed = _targeted(defence, images, attack_name, budget, seed, wanted)
    return _like(x, perturbed)


def _training(model: Any) -> list[nn.Module]:
    """The parts in training mode of a module that is, as in adversarial training.

    One that is in evaluation mode keeps parts in training mode: these may be the defence.
    """
    return [m for m in model.modules() if m.training] if getattr(model, "training", False) else []


def _images(x: Any, model: Any) -> Tensor:
    """Images [B, C, H, W] in the floating type and on the device of the model's weights.

    Raises:
        InputError: they are no images.
    """
    stored = x
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.ndim == 4 and 3 >= x.shape[1] > 0 < len(x)):
        whole = torch.from_numpy(pixels(x, "x")).permute(0, 3, 1, 2)
        stored = whole if whole.is_floating_point() else whole / 255
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    like = next((w for w in weights if w.is_floating_point()), stored)
    return stored.to(like.device, like.dtype)


def _like(x: Any, perturbed: Tensor) -> Any:
    """Images [B, C, H, W] in the shape, on the device and of the type of ``x``."""
    shape = tuple(x.shape) if hasattr(x, "shape") else tuple(perturbed.shape)
    if len(shape) == 3:
        perturbed = perturbed[:, 0]
    elif shape != tuple(perturbed.shape):
        perturbed = perturbed.permute(0, 2, 3, 1)
    if isinstance(x, Tensor):
        return perturbed.to(x.device, x.dtype if x.is_floating_point() else torch.float32)
    array = perturbed.float().cpu().numpy()
    given = getattr(x, "dtype", array.dtype)
    return array.astype(given) if given.kind == "f" else array


def _targeted(
    defence: Defence, x: Tensor, name: AttackName, budget: PerturbationBudget, seed: int, target: Tensor
) -> Tensor:
    """One attack for each class that is wanted, on the inputs that it is wanted of.

    An attack by labels alone starts from the nearest of the other inputs that are of that class: its own
    starts are among the inputs that it attacks.
    """
    if target.ndim > 1 or (target.ndim and target.shape != x.shape[:1]):
        raise ValueError(f"expected one target or [B] of them, got {list(target.shape)}")
    wanted = target.expand(len(x))
    classes = wanted.unique().tolist()
    if len(classes) > 1 and defence.batch_dependent:
        raise ValueError("expected one target for all inputs of a batch-dependent defence, got several")
    found, answers = x.clone(), None
    if len(classes) > 1 and name.family == "decision":
        answers = Target(defence, len(x), seed, [0]).answer(x, 0).argmax(-1)
    for each in classes:
        rows = wanted == each
        others = torch.full_like(wanted[rows], OTHERS)
        start = None
        if answers is not None and bool((answers == each).any()):
            there = x[answers == each]
            start = there[torch.cdist(x[rows].flatten(1), there.flatten(1)).argmin(1)]
        found[rows] = _attacked(Towards(defence, each), x[rows], others, name, budget, seed, start)
    return found


def _attacked(
    defence: Defence,
    x: Tensor,
    y: Tensor,
    attack_name: AttackName,
    budget: PerturbationBudget,
    seed: int,
    start: Tensor | None = None,
) -> Tensor:
    target = Target(defence, len(x), seed, [0])
    generators, known = [streams.stream(seed, 0, "start")], target.known_draws(0)
    inputs = AttackInputs(
        target,
        defence.base,
        x[None],
        y[None],
        budget,
        generators,
        known,
        start=None if start is None else start[None],
    )
    if attack_name.third_party is not None and attack_name.differentiates:
        _require_gradient(attack_name, inputs)
    result = perturb(attack_name, inputs)
    if result.counts["without_gradient"]:
        _require_gradient(attack_name, inputs)
    return result.x[0]


def _require_gradient(name: AttackName, inputs: AttackInputs) -> None:
    """Raises ValueError where there is no gradient; attacks of ours also follow that of smooth operators."""
    estimator = FreshDraws(inputs.target)
    try:
        estimator.gradient(inputs.x, inputs.y, margin_loss)
    except NoGradient as error:
        if name.third_party is not None:
            raise ValueError(
                f"{name.text} needs a gradient, and {error.why}; use {RELAXED[0]}, which smooths the "
                f"model's operators, or {LAST_RESORT[0]}, which needs none"
            ) from None
        estimator.relaxation = Relaxation()
        found = estimator.gradient(inputs.x, inputs.y, margin_loss).grad
        if found is None or not bool((found != 0).any()):
            raise ValueError(
                f"{name.text} needs a gradient: {error.why}, and with smooth operators there is none either; "
                f"use {LAST_RESORT[0]}, which needs none"
            ) from None


@torch.no_grad()
def _as_defence(model: Any, x: Tensor, highest: int) -> Defence:
    """A module or function that draws no random number when it is called counts as deterministic.

    Raises:
        InputError: it is no defence, fails on the first image, or answers it with something else than logits
            for labels up to ``highest``.
    """
    defence = as_defence(model, None, name="model", said="expected a network or a defence, got")
    if isinstance(defence, SamplingModule):
        try:
            answer = defence.logits(x[:1], 0)
        except InputError:
            raise
        except Exception as error:  # the user's code can fail in any way
            raise InputError(f"the model fails on images {list(x[:1].shape)}: {described(error)}") from error
        if not isinstance(answer, Tensor):
            raise InputError(f"expected logits [1, classes] for an image, got {type(answer).__name__}")
        shape = tuple(answer.shape)
        if wrong := misshapen(defence, 1, shape) or too_few_classes(defence, shape[1], highest):
            raise InputError(f"the model {wrong}")
        defence.settle(randomised=False, batch_dependent=callable(getattr(model, "fit", None)))
    return defence
