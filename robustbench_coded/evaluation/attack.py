"""``robustbench_coded.attack``: one named attack on one batch of images."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from attacks.accelerator import lacks
from attacks.algorithm import LossName
from attacks.attack import Package, Runnable, read_changed, refuse_norm
from attacks.estimators import FreshDraws
from attacks.gradients import NoGradient
from attacks.losses import margin_loss
from attacks.norms import Norm
from attacks.perturbation_budget import PerturbationBudget
from attacks.presets import LAST_RESORT, RELAXED
from attacks.relaxation import Relaxation
from robustbench_coded.data.arrays import array, channels_at_the_end, check_range, labels, pixels
from robustbench_coded.defences.memory import in_evaluation_mode
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.protocol import Defence, misshapen, too_few_classes
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.execution.perturb import AttackInputs, perturb
from robustbench_coded.evaluation.execution.target import OTHERS, Target, TargetedDefence
from robustbench_coded.evaluation.guard import guarded
from robustbench_coded.evaluation.planning import streams
from robustbench_coded.models.in_memory import FixedBatch, NetworkInMemory, answered, is_function, networks_in
from robustbench_coded.options.option import count, number
from robustbench_coded.options.values import named_norm, read_number

Images = TypeVar("Images")
SEEDS = count(0, 2**63 - 1)


def attack(
    model: Any,
    x: Images,
    y: Any,
    name: str,
    eps: float | str,
    *,
    norm: Norm | float = "linf",
    seed: int | None = None,
    target: int | Tensor | None = None,
    steps: int | None = None,
    step_size: float | str | None = None,
    eot: int | None = None,
    loss: LossName | None = None,
    base: nn.Module | None = None,
    early_stop: bool = False,
    **unknown: Any,
) -> Images:
    """Perturbs one batch with a named attack.

    The call works under ``no_grad``, too, and leaves the caller's network unchanged (`guarded`). If the
    model's output has no graph, the attack uses the ``relaxed-`` operators (docs/your-defence.md).

    Args:
        model: a module, which is queried in evaluation mode, or a function from [B, C, H, W] to logits
            [B, classes], with its normalisation inside, that classifies each input independently (it may
            sample); or any defence (docs/your-defence.md).
        x: clean inputs [B, C, H, W], [B, H, W, C] or [B, H, W], floats in [0, 1] or uint8, a tensor on any
            device or an array. A batch-dependent defence classifies them as one batch.
        y: true classes [B], integers.
        name: one attack, as ``csrobust list attacks`` prints it: ``"pgd-10"``, ``"eot10-pgd-20"`` ...
        eps: radius in units of pixels in [0, 1]: 8/255 or "8/255", never 8; in l0 how many pixels may change.
        norm: "linf", "l2", "l1" or "l0", in which all channels of a pixel together count as one.
        seed: of the random start and the attacker's draws. None takes one from torch's generator, which
            ``torch.manual_seed`` sets.
        target: the class that the attack aims at, one for all, or [B] for a defence that classifies inputs
            independently; None for any class but ``y``.
        steps, step_size, eot, loss: parts of the name: ``"pgd"`` with ``steps=10, eot=4, step_size=0.05`` is
            ``"eot4-pgd-10@0.05"``.
        base: the base model, for attacks that query it (``transfer-``, ``bpda-``).
        early_stop: stop on an input as soon as it is misclassified, as `evaluate` does for deterministic
            models. It saves steps and ends at a lower loss, so adversarial training and transfer to other
            networks should not use it.

    Returns:
        Perturbed inputs like ``x``, of its shape, device and type, without a graph; float32 in [0, 1] for
        uint8.

    Raises:
        InputError: an argument is none of the above; the attack needs a gradient and there is none, even
            with smooth operators; or a result is not finite, or outside eps or the box, which attacks of
            csrobust never give. The message says which.
    """
    for given in unknown:
        raise InputError(f"attack() has no argument {given!r}; {_meant(given)}")
    if not isinstance(name, str):
        raise InputError(f"name {name!r} is not text; give one attack, such as 'pgd-10'")
    drawn = torch.randint(2**63 - 1, (), device="cpu") if seed is None else seed
    seed = read_number(drawn, "seed", SEEDS)
    rules = {"steps": count(), "eot": count(), "step_size": number(0, above=True)}
    stated = {"steps": steps, "eot": eot, "step_size": step_size}
    parts = {part: read_number(n, part, rules[part]) for part, n in stated.items() if n is not None}
    try:
        named = read_changed(name, **parts, **({} if loss is None else {"loss": loss}))
    except ValueError as error:
        raise InputError(str(error)) from None
    if type(early_stop) is not bool:
        raise InputError(f"early_stop: expected True or False, got {early_stop!r}")
    radius = read_number(eps, "eps", number(0))

    @guarded
    def perturbed(model: Any, base: Any) -> Tensor:
        with in_evaluation_mode([*_training(model), *_training(base)]):
            images, dtype = _images(x, model)
            classes = torch.from_numpy(labels(y, len(images), "y")).to(images.device)
            try:
                budget = PerturbationBudget(named_norm(norm, "norm"), radius)
                refuse_norm(named, budget.norm)
            except ValueError as error:
                raise InputError(str(error)) from None
            defence = _as_defence(model, images.to(dtype), int(classes.max()))
            asked = defence.base if base is None else base
            if named.uses_base and asked is None:
                raise InputError(f"{named} asks the base model; give it: base=network")
            if asked is not None:
                defence = copy(defence)
                defence.base = NetworkInMemory(asked)
            run = partial(
                _attacked, attack=named, budget=budget, seed=seed, dtype=dtype, early_stop=early_stop
            )
            if target is None:
                return run(defence, images, classes)
            return _targeted(defence, images, named, _targets(target, defence, images.to(dtype), seed), run)

    return _like(x, perturbed(model, base=base).detach())


def attack_batches(
    model: Any,
    batches: Iterable[Any],
    name: str,
    eps: float | str,
    *,
    seed: int | None = None,
    **options: Any,
) -> Iterator[tuple[Any, Any]]:
    """Perturbs batches one by one, as adversarial training needs them.

        for x_adv, y in attack_batches(model, loader, "pgd-7", eps="8/255"):
            loss = cross_entropy(model(x_adv), y)

    Each batch is perturbed when the loop reaches it, with the model's current weights.

    Args:
        model, name, eps, options: those of `attack`.
        batches: pairs (x, y), such as a DataLoader; what `attack` takes as ``x`` and ``y``.
        seed: of the first batch; batch b has ``seed + b``. None as in `attack`.

    Yields:
        Pairs (perturbed inputs like x, y).

    Raises:
        InputError: a batch is no pair, or `attack` refuses it; the message names the batch.
    """
    first = None if seed is None else read_number(seed, "seed", SEEDS)
    for index, batch in enumerate(batches):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise InputError(f"batch {index}: expected a pair (x, y), got {type(batch).__name__}")
        x, y = batch
        try:
            own = None if first is None else first + index
            x_adv = attack(model, x, y, name, eps, seed=own, **options)
        except InputError as error:
            raise InputError(f"batch {index}: {error}") from error.__cause__
        yield x_adv, y


# What other libraries call an argument, or have beside these.
ELSEWHERE = {"alpha": "step_size", "epsilon": "eps", "n_iter": "steps", "num_steps": "steps", "ord": "norm"}


def _meant(given: str) -> str:
    if given == "random_start":
        return "pgd starts at random, and fgsm does not"
    known = ("steps", "step_size", "eot", "loss", "norm", "seed", "target", "base", "early_stop")
    near = did_you_mean(ELSEWHERE.get(given, given), known)
    return f"{near}an attack's name says its steps, draws and step size: eot4-pgd-10@0.05"


def _targets(target: Any, defence: Defence, x: Tensor, seed: int) -> Tensor:
    """Wanted classes [B], each one that the defence answers.

    Raises:
        InputError: another type or shape, or a class that it does not have.
    """
    given = None
    with suppress(TypeError, ValueError, RuntimeError):
        given = torch.as_tensor(target)
    if given is None or given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InputError(f"target: expected a class, a whole number, or [B] of them, got {target!r}")
    if given.ndim > 1 or (given.ndim and len(given) != len(x)):
        raise InputError(f"target: expected one class or [{len(x)}] of them, got {list(given.shape)}")
    with torch.no_grad():
        classes = Target(defence, len(x), seed, [0]).answer(x, 0).shape[-1]
    lowest, highest = int(given.min()), int(given.max())
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise InputError(f"target: class {wrong} is out of range; the model answers 0 to {classes - 1}")
    return given.to(x.device, torch.int64).expand(len(x))


def _training(model: Any) -> list[nn.Module]:
    """The parts in training mode of networks that are, as in adversarial training; of a module or function.

    One that is in evaluation mode keeps parts in training mode: these may be the defence.
    """
    networks = networks_in(model) if isinstance(model, nn.Module) or is_function(model) else []
    return [m for network in networks if network.training for m in network.modules() if m.training]


def _images(x: Any, model: Any) -> tuple[Tensor, torch.dtype]:
    """Images [B, C, H, W] in the caller's floating type, on the device of the model's weights; and theirs.

    The model is asked in the type of its weights; a function in the caller's.

    Raises:
        InputError: they are no images.
    """
    stored = x
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.ndim == 4 and 3 >= x.shape[1] > 0 < len(x)):
        values = pixels(x, "x")
        if values.dtype != np.uint8:  # it has rounded them
            values = channels_at_the_end(x, "x").astype(f"f{min(array(x).itemsize, 8)}")
        stored = torch.from_numpy(values).permute(0, 3, 1, 2)
        stored = stored if stored.is_floating_point() else stored / 255
        stored = stored.to(x.dtype) if isinstance(x, Tensor) and x.is_floating_point() else stored
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    like = next((w for w in weights if w.is_floating_point()), stored)
    known = torch.float32 if "float64" in lacks(like.device) else torch.float64
    images = stored.detach().to(like.device, min(stored.dtype, known, key=lambda dtype: dtype.itemsize))
    images = images.clone(memory_format=torch.contiguous_format)
    lowest, highest = map(float, images.aminmax())
    check_range(lowest, highest, "x")
    return images if lowest >= 0 and highest <= 1 else images.clamp(0, 1), like.dtype


def _like(x: Any, perturbed: Tensor) -> Any:
    """Images [B, C, H, W] in the shape, on the device and of the type of ``x``."""
    shape = tuple(x.shape) if hasattr(x, "shape") else tuple(perturbed.shape)
    if len(shape) == 3:
        perturbed = perturbed[:, 0]
    elif shape != tuple(perturbed.shape):
        perturbed = perturbed.permute(0, 2, 3, 1)
    if isinstance(x, Tensor):
        return perturbed.to(x.device, x.dtype if x.is_floating_point() else torch.float32)
    found = perturbed.cpu().numpy()
    given = getattr(x, "dtype", found.dtype)
    return found.astype(given) if given.kind == "f" else found


def _targeted(defence: Defence, x: Tensor, attack: Runnable, wanted: Tensor, run: partial[Tensor]) -> Tensor:
    """One attack, ``run``, for each class that is wanted, on the inputs that it is wanted of.

    An attack by labels alone starts from the nearest of the other inputs that are of that class: its own
    starts are among the inputs that it attacks.
    """
    classes = wanted.unique().tolist()
    if len(classes) > 1 and defence.batch_dependent:
        raise InputError("target: expected one for all inputs of a batch-dependent defence, got several")
    points, answers = x.clone(), None
    if len(classes) > 1 and attack.declared.family == "decision":
        seed, dtype = run.keywords["seed"], run.keywords["dtype"]
        answers = Target(defence, len(x), seed, [0], dtype=dtype).answer(x, 0).argmax(-1)
    for each in classes:
        rows = wanted == each
        others = torch.full_like(wanted[rows], OTHERS)
        start = None
        if answers is not None and bool((answers == each).any()):
            there = x[answers == each]
            start = there[torch.cdist(x[rows].flatten(1), there.flatten(1)).argmin(1)]
        towards = TargetedDefence(defence, each)
        points[rows] = run(towards, x[rows], others, start=start)
    return points


def _attacked(
    defence: Defence,
    x: Tensor,
    y: Tensor,
    attack: Runnable,
    budget: PerturbationBudget,
    seed: int,
    dtype: torch.dtype,
    early_stop: bool,
    start: Tensor | None = None,
) -> Tensor:
    target = Target(defence, len(x), seed, [0], dtype=dtype)
    generators, known = [streams.stream(seed, 0, "start")], target.known_draws(0)
    inputs = AttackInputs(
        target,
        defence.base,
        x[None],
        y[None],
        budget,
        generators,
        known,
        early_stop=early_stop,
        start=None if start is None else start[None],
    )
    if isinstance(attack, Package) and attack.differentiates:
        _require_gradient(attack, inputs)
    result = perturb(attack, inputs)
    if result.counts["without_gradient"]:
        _require_gradient(attack, inputs)
    if faulty := result.counts["faulty"]:
        raise InputError(f"{attack}: {faulty} of {len(x)} results are not finite or outside eps or the box")
    return result.x[0]


def _require_gradient(attack: Runnable, inputs: AttackInputs) -> None:
    """Raises InputError where there is no gradient; attacks of ours also follow that of smooth operators."""
    estimator = FreshDraws(inputs.target)
    try:
        estimator.gradient(inputs.x, inputs.y, margin_loss)
    except NoGradient as error:
        if isinstance(attack, Package):
            raise InputError(
                f"{attack} needs a gradient, and {error.why}; use {RELAXED[0]}, which smooths the "
                f"model's operators, or {LAST_RESORT[0]}, which needs none"
            ) from None
        estimator.relaxation = Relaxation()
        gradient = estimator.gradient(inputs.x, inputs.y, margin_loss).grad
        if gradient is None or not bool((gradient != 0).any()):
            raise InputError(
                f"{attack} needs a gradient: {error.why}, and with smooth operators there is none either; "
                f"use {LAST_RESORT[0]}, which needs none"
            ) from None


@torch.no_grad()
def _as_defence(model: Any, x: Tensor, highest: int) -> Defence:
    """A module or function that draws no random number when it is called counts as deterministic.

    Raises:
        InputError: it is no defence, fails on the first image, or answers it with something else than logits
            for labels up to ``highest``.
    """
    defence = as_defence(model, None, name="model", origin="expected a network or a defence, got")
    if isinstance(defence, SamplingModule):
        defence, answer = _first_answer(defence, model, x)
        shape = tuple(answer.shape)
        if wrong := misshapen(defence, 1, shape) or too_few_classes(defence, shape[1], highest):
            raise InputError(f"the model {wrong}")
        defence.settle(randomised=False, batch_dependent=callable(getattr(model, "fit", None)))
    return defence


def _first_answer(defence: SamplingModule, model: Any, x: Tensor) -> tuple[SamplingModule, Tensor]:
    """The answer to the first image; of a network that answers ``len(x)`` inputs at once and no fewer, too.

    Raises:
        InputError: it fails on both.
    """
    try:
        return defence, answered(lambda images: defence.logits(images, 0), x[:1], "the model")
    except InputError as error:
        if error.__cause__ is not None:  # it fails, where it may answer another size of batch
            fixed = SamplingModule(FixedBatch(NetworkInMemory(model), len(x)), name="model")
            with suppress(InputError):
                return fixed, answered(lambda images: fixed.logits(images, 0), x[:1])
        raise
