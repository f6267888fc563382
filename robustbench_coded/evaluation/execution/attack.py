"""``robustbench_coded.attack``: one named attack on one batch of tensors."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from attacks.catalogue import refuse_norm
from attacks.losses import margin_loss
from attacks.naming import AttackName, parse
from attacks.no_graph import NoGraph
from attacks.perturbation_budget import Norm, PerturbationBudget
from attacks.registry import estimator_for
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.sampling_module import SamplingModule
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.perturb import AttackInputs, perturb
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.execution.towards import OTHERS, Towards
from robustbench_coded.evaluation.planning.streams import stream


def attack(
    model: nn.Module | Defence,
    x: Tensor,
    y: Tensor,
    name: str,
    eps: float,
    *,
    norm: Norm = "linf",
    seed: int = 0,
    target: int | Tensor | None = None,
) -> Tensor:
    """Perturbs one batch by a named attack, as an evaluation perturbs its first batch.

    A model whose answer has no graph is attacked through ``relaxed-`` (docs/your-defence.md), named or not.

    Args:
        model: a module in evaluation mode from ``x`` to logits [B, classes], with its normalisation inside,
            that answers input by input (it may sample); or any defence (docs/your-defence.md).
        x: clean inputs [B, C, H, W], floating point, in [0, 1]. A batch-dependent defence answers them as
            one batch.
        y: true classes [B], int64.
        name: one attack, as ``csrobust list attacks`` prints it: ``"pgd-10"``, ``"eot10-pgd-20"`` ...
        eps: radius in units of ``x``: 8/255, never 8.
        norm: "linf", "l2" or "l1".
        seed: decides the random start and the attacker's draws.
        target: the class that the inputs are to be answered with, one for all, or [B] for a defence that
            answers input by input; None for any but ``y``.

    Returns:
        Perturbed inputs like ``x``.

    Raises:
        ValueError: an argument is none of the above, or the attack needs a gradient and there is none, even
            with smooth operators; the message says which.
    """
    if x.ndim != 4 or not len(x) or not x.is_floating_point() or y.shape != x.shape[:1]:
        said = f"{x.dtype} {list(x.shape)} and {list(y.shape)}"
        raise ValueError(f"expected x [B, C, H, W] in floating point and y [B], got {said}")
    if getattr(model, "training", False):
        raise ValueError("expected a model in evaluation mode, got training mode; call model.eval()")
    attack_name, budget, defence = parse(name), PerturbationBudget(norm, eps), _as_defence(model, x)
    refuse_norm(attack_name, norm)
    if target is not None:
        return _targeted(defence, x, attack_name, budget, seed, torch.as_tensor(target).to(y))
    return _attacked(defence, x, y, attack_name, budget, seed)


def _targeted(
    defence: Defence, x: Tensor, name: AttackName, budget: PerturbationBudget, seed: int, target: Tensor
) -> Tensor:
    """One attack for each class that is wanted, on the inputs that it is wanted of."""
    if target.ndim > 1 or (target.ndim and target.shape != x.shape[:1]):
        raise ValueError(f"expected one target or [B] of them, got {list(target.shape)}")
    wanted = target.expand(len(x))
    classes = wanted.unique().tolist()
    if len(classes) > 1 and defence.batch_dependent:
        raise ValueError("expected one target for all inputs of a batch-dependent defence, got several")
    found = x.clone()
    for each in classes:
        rows = wanted == each
        others = torch.full_like(wanted[rows], OTHERS)
        found[rows] = _attacked(Towards(defence, each), x[rows], others, name, budget, seed)
    return found


def _attacked(
    defence: Defence, x: Tensor, y: Tensor, attack_name: AttackName, budget: PerturbationBudget, seed: int
) -> Tensor:
    target = Target(defence, len(x), seed, [0])
    generators, known = [stream(seed, 0, "start")], target.known_draws(0)
    inputs = AttackInputs(target, defence.base, x[None], y[None], budget, generators, known)
    if attack_name.third_party is not None and attack_name.differentiates:
        _require_graph(attack_name, inputs)
    try:
        return perturb(attack_name, inputs).x[0]
    except RuntimeError as error:
        if not isinstance(error, NoGraph) and _has_derivative(inputs):
            raise
        inputs = replace(inputs, generators=[stream(seed, 0, "start")])
        return perturb(_relaxed(attack_name, inputs), inputs).x[0]


def _has_derivative(inputs: AttackInputs) -> bool:
    """Whether torch knows the derivatives of all operators that the answer is made by."""
    with torch.enable_grad():
        leaf = inputs.x.clone().requires_grad_()
        answer = inputs.target.logits(leaf.view_as(leaf), inputs.target.draws(0))
        try:
            torch.autograd.grad(answer.sum(), leaf, allow_unused=True)
        except RuntimeError:
            return False
    return True


def _require_graph(name: AttackName, inputs: AttackInputs) -> None:
    """Raises ValueError where another package would ask torch for a gradient that is not there."""
    with torch.enable_grad():
        leaf = inputs.x.clone().requires_grad_()
        answer = inputs.target.logits(leaf.view_as(leaf), inputs.target.draws(0))
    if not answer.requires_grad:
        raise ValueError(
            f"{name.text} needs a gradient, and the model's answer has no graph back to x; use "
            "relaxed-pgd-20, which smooths the model's operators, or square-1000, which needs none"
        )


def _relaxed(name: AttackName, inputs: AttackInputs) -> AttackName:
    """The name with ``relaxed-`` before it.

    Raises:
        ValueError: there is no gradient then either.
    """
    relaxed = parse(f"relaxed-{name.text}")
    found = estimator_for(relaxed, inputs.target, known=inputs.known).gradient(
        inputs.x, inputs.y, margin_loss
    )
    if found.grad is None or not bool((found.grad != 0).any()):
        raise ValueError(
            f"{name.text} needs a gradient: the model's answer has no graph back to x, and with smooth "
            "operators it has none either; use square-1000, which needs none"
        )
    return relaxed


@torch.no_grad()
def _as_defence(model: nn.Module | Defence, x: Tensor) -> Defence:
    """A module that draws no random number when it is called counts as deterministic."""
    try:
        defence = as_defence(model, None, name="model", said="expected a module or a defence, got")
    except InputError as error:
        raise ValueError(str(error)) from None
    if isinstance(defence, SamplingModule):
        defence.logits(x[:1], 0)
        defence.settle(randomised=False, batch_dependent=callable(getattr(model, "fit", None)))
    return defence
