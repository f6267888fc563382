"""``robustbench_coded.attack``: one named attack on one batch of images."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from attacks.attack_name import AttackName
from attacks.catalogue import refuse_norm
from attacks.estimators import FreshDraws
from attacks.gradients import NoGradient, raise_machine_fault
from attacks.losses import margin_loss
from attacks.naming import parse
from attacks.perturbation_budget import Norm, PerturbationBudget
from attacks.presets import LAST_RESORT, RELAXED
from attacks.relaxation import Relaxation
from robustbench_coded.data.arrays import labels, pixels
from robustbench_coded.defences.memory import in_evaluation_mode
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.protocol import Defence, misshapen, too_few_classes
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.errors import InputError, described
from robustbench_coded.evaluation.execution.perturb import AttackInputs, perturb
from robustbench_coded.evaluation.execution.target import OTHERS, Target, Towards
from robustbench_coded.evaluation.guard import guarded
from robustbench_coded.evaluation.options.option import radius
from robustbench_coded.evaluation.planning import streams

Images = TypeVar("Images")


@guarded
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

    Gradients are enabled here, whatever mode the caller is in, and the caller's network is left as it was
    (`guarded`). A model whose answer has no graph is attacked
    through ``relaxed-`` (docs/your-defence.md), named or not.

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
    images = stored.detach().to(like.device, like.dtype)
    return images.clone() if images.is_inference() else images


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
            raise_machine_fault(error)
            raise InputError(f"the model fails on images {list(x[:1].shape)}: {described(error)}") from error
        if not isinstance(answer, Tensor):
            raise InputError(f"expected logits [1, classes] for an image, got {type(answer).__name__}")
        shape = tuple(answer.shape)
        if wrong := misshapen(defence, 1, shape) or too_few_classes(defence, shape[1], highest):
            raise InputError(f"the model {wrong}")
        defence.settle(randomised=False, batch_dependent=callable(getattr(model, "fit", None)))
    return defence
