"""What a defence does, whatever it says of itself, found by a few forwards of one batch."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.global_generators import seeded_globally
from robustbench_coded.defences.memory import modules_of
from robustbench_coded.defences.protocol import Defence, Draw, logits_grouped, reject_class
from robustbench_coded.errors import InputError, described

# Changes below this share of the largest logit are rounding. Another batch size may be computed by another
# algorithm, on a GPU in less precision, hence the looser second figure.
ROUNDING = 1e-4
ROUNDING_ACROSS_SIZES = 1e-2
DRAWS = 4
_MODE_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)


@dataclass(frozen=True)
class ProbeResult:
    """What was measured. Changes are the largest absolute change of any logit, in units of logits.

    Attributes:
        k: inputs in the batch.
        scale: largest absolute logit.
        shape: of the logits, which should be (k, classes).
        not_finite: share of logits that are NaN or infinite. Unless it is 0 nothing else was measured.
        same_draw: change between two answers to one input under one draw.
        other_draws: change between draws.
        global_state: change when nothing but the process's global random generators differs.
        co_batched: change of the other answers when one co-batched input is changed.
        co_batched_by: what was done to it in the worst case.
        all_co_batched: change of one answer when all the other inputs are changed.
        cross_gradient: gradient of half the answers with respect to the inputs of the other half, as a share
            of the gradient with respect to their own.
        other_size: change of the first answers when the batch is cut in half; None where draws or co-batched
            inputs differ anyway.
        other_size_error: what happened when half a batch was asked, if it failed.
        other_slot: change of an answer when its input moves to another slot, the others as before; None
            where draws belong to slots.
        grouped: change between ``logits_grouped`` and ``logits``; None where there is no ``logits_grouped``.
        no_gradient: whether logits cannot be differentiated in the input at all.
        zero_gradients: share of inputs at which cross-entropy has gradient zero in every pixel.
        zero_margin_gradients: the same for the gap between the two largest logits.
        nan_gradients: share of inputs with NaN or infinite gradients.
        double: change between float32 and float64; None where the defence cannot be cast.
        training_layers: batch normalisation and dropout left in training mode, by name.
    """

    k: int
    scale: float
    shape: tuple[int, ...]
    not_finite: float
    same_draw: float = 0.0
    other_draws: float = 0.0
    global_state: float = 0.0
    co_batched: float = 0.0
    co_batched_by: str = ""
    all_co_batched: float = 0.0
    cross_gradient: float = 0.0
    other_size: float | None = None
    other_size_error: str | None = None
    other_slot: float | None = None
    grouped: float | None = None
    no_gradient: bool = False
    zero_gradients: float = 0.0
    zero_margin_gradients: float = 0.0
    nan_gradients: float = 0.0
    double: float | None = None
    training_layers: tuple[str, ...] = field(default=())

    @property
    def randomised(self) -> bool:
        """Whether some draw gave another answer."""
        return self._moved(self.other_draws)

    @property
    def batch_dependent(self) -> bool:
        """Whether some answer followed its co-batched inputs."""
        return (
            self._moved(self.co_batched) or self._moved(self.all_co_batched) or self.cross_gradient > ROUNDING
        )

    def _moved(self, change: float, rounding: float = ROUNDING) -> bool:
        # NaN compares false with everything; it must count as a change.
        return not change <= rounding * self.scale


def probe(defence: Defence, x: Tensor, generator: torch.Generator) -> ProbeResult:
    """Measures what a defence does with one batch, in about twenty forwards of it.

    Args:
        defence: any defence; what it declares is not used but to know which comparisons mean something.
        x: float32 images [k, C, H, W] in [0, 1]; 8 to 16 are enough, and half of them must be enough, too.
        generator: CPU generator of the draws.
    Raises:
        InputError: the defence raises an exception when it is asked, or answers with something else than
            floating-point numbers.
    """
    with blamed_on(defence, x):
        return _measured(defence, x, generator)


@contextmanager
def blamed_on(defence: Defence, x: Tensor) -> Iterator[None]:
    """Whatever goes wrong within is the defence's doing: the user's code can fail in any way."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{defence.name} fails on a batch of shape {tuple(x.shape)}: {described(error)}"
        ) from error


def _measured(defence: Defence, x: Tensor, generator: torch.Generator) -> ProbeResult:
    draws = [defence.sample(generator, len(x)) for _ in range(DRAWS)]
    with torch.no_grad():
        first: Any = defence.logits(x, draws[0])
        if not isinstance(first, Tensor):
            raise InputError(
                f"{defence.name} answers with {type(first).__name__}, not with a tensor of logits"
            )
        if not first.is_floating_point():
            kind = str(first.dtype).removeprefix("torch.")
            raise InputError(f"{defence.name} answers with {kind}, not with floating-point logits")
        shape = tuple(first.shape)
        not_finite = 1 - torch.isfinite(first).double().mean().item()
        if _misshapen(defence, len(x), shape) or not_finite:
            return ProbeResult(len(x), 0.0, shape, not_finite)

        def moved(answers: Tensor) -> float:
            return (answers - first).abs().max().item()

        co_batched, co_batched_by = _worst_co_batched(defence, x, draws[0], first)
        other_size, other_size_error = _half_a_batch(defence, x, generator, first)
        measured: dict[str, Any] = {
            "same_draw": moved(defence.logits(x, draws[0])),
            "other_draws": max(moved(defence.logits(x, draw)) for draw in draws[1:]),
            "global_state": _global_state(defence, x, generator),
            "co_batched": co_batched,
            "co_batched_by": co_batched_by,
            "all_co_batched": _all_co_batched(defence, x, draws[0], first),
            "other_size": other_size,
            "other_size_error": other_size_error,
            "other_slot": _other_slot(defence, x, draws[0], first),
            "grouped": _grouped(defence, x, draws),
            "double": _in_double(defence, x, draws[0], first),
            "training_layers": tuple(_training_layers(defence)),
        }
    measured |= _gradients(defence, x, draws[0])
    return ProbeResult(len(x), first.abs().max().item(), shape, not_finite, **measured)


def contradictions(defence: Defence, result: ProbeResult) -> list[str]:
    """What it did that its declaration or the protocol rules out: one line each, to follow "it"."""
    found = []
    if wrong := _misshapen(defence, result.k, result.shape):
        found.append(wrong)
    if result.not_finite:
        found.append(f"answers with NaN or infinite logits ({result.not_finite:.0%} of them)")
    if found:
        return found
    if result._moved(result.same_draw):
        found.append(
            f"answers the same input differently under the same draw, logits moved by {result.same_draw:.2g}"
        )
    elif result._moved(result.global_state):
        found.append(
            "depends on the global random generators beside its draw, reseeding them moved logits by "
            f"{result.global_state:.2g}"
        )
    if not defence.randomised and result.randomised:
        found.append(f"says not randomised, but another draw moved logits by {result.other_draws:.2g}")
    if not defence.batch_dependent and result.batch_dependent:
        found.append(f"says batch-independent, but {_dependence(result)}")
    elif (
        not defence.batch_dependent
        and result.other_size is not None
        and result._moved(result.other_size, ROUNDING_ACROSS_SIZES)
    ):
        found.append(f"says batch-independent, but halving the batch moved logits by {result.other_size:.2g}")
    if result.grouped is not None and result._moved(result.grouped, ROUNDING_ACROSS_SIZES):
        found.append(
            f"answers batches in a group (logits_grouped) otherwise than alone, by {result.grouped:.2g}"
        )
    return found


def _misshapen(defence: Defence, k: int, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the shape of the logits of k inputs, if anything."""
    if len(shape) != 2 or shape[0] != k:
        return f"answers {k} inputs with logits of shape {shape}, not ({k}, classes)"
    classes, reject = getattr(defence.base, "classes", None), reject_class(defence)
    if reject is not None and not 0 <= reject < shape[1]:
        return f"rejects by class {reject}, of {shape[1]} logits for each input"
    if classes is not None and shape[1] - (reject is not None) != classes:
        return f"answers with {shape[1]} logits for each input, its base model has {classes} classes"
    return None if shape[1] > 1 else "answers with one logit for each input: there is nothing to choose from"


def warnings(defence: Defence, result: ProbeResult) -> list[str]:
    """What is allowed but may mislead an evaluation; one line each."""
    found = []
    if result.zero_gradients:
        masked = result.zero_margin_gradients < result.zero_gradients
        reason = " (those of the margin are not: saturated logits)" if masked else ""
        found.append(f"the cross-entropy gradient is zero at {result.zero_gradients:.0%} of inputs{reason}")
    if result.nan_gradients:
        found.append(f"gradients are NaN or infinite at {result.nan_gradients:.0%} of inputs")
    if result.double is not None and result._moved(result.double, ROUNDING_ACROSS_SIZES):
        found.append(f"float64 moves logits by {result.double:.2g}: answers hang on rounding")
    if result.training_layers:
        names = ", ".join(result.training_layers[:3])
        more = f" and {len(result.training_layers) - 3} more" if len(result.training_layers) > 3 else ""
        found.append(f"layers in training mode: {names}{more}")
    if result.other_size_error:
        found.append(f"cannot answer {result.k // 2} inputs: {result.other_size_error}")
    if defence.randomised and not result.randomised:
        found.append(f"says randomised, but {DRAWS} draws gave the same answers")
    if defence.batch_dependent and not result.batch_dependent:
        found.append("says batch-dependent, but no answer followed its co-batched inputs")
    return found


def _dependence(result: ProbeResult) -> str:
    if result._moved(result.co_batched):
        return (
            f"changing one co-batched input moved logits by {result.co_batched:.2g} ({result.co_batched_by})"
        )
    if result._moved(result.all_co_batched):
        return f"changing the co-batched inputs moved logits by {result.all_co_batched:.2g}"
    return f"answers have {result.cross_gradient:.2g} of their gradient in co-batched inputs"


def _changes(x: Tensor) -> Iterator[tuple[str, int, Tensor]]:
    """What one input of the batch is changed to: in words, its slot, its new pixels."""
    k = len(x)
    noise = torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
    yield "made black", 0, torch.zeros_like(x[0])
    yield "made white", k - 1, torch.ones_like(x[0])
    yield "made negative", k // 2, 1 - x[k // 2]
    yield "made noise", 1, noise
    yield "made a copy of another", k - 2, x[0]


def _worst_co_batched(defence: Defence, x: Tensor, draw: Draw, first: Tensor) -> tuple[float, str]:
    worst, by = 0.0, ""
    for name, slot, pixels in _changes(x):
        changed = x.clone()
        changed[slot] = pixels
        change = (defence.logits(changed, draw) - first).abs()
        change[slot] = 0
        if not change.max().item() <= worst:
            worst, by = change.max().item(), name
    return worst, by


def _all_co_batched(defence: Defence, x: Tensor, draw: Draw, first: Tensor) -> float:
    worst = 0.0
    for victim in (0, len(x) - 1):
        changed = 1 - x.roll(1, 0)
        changed[victim] = x[victim]
        worst = max(worst, (defence.logits(changed, draw)[victim] - first[victim]).abs().max().item())
    return worst


def _half_a_batch(
    defence: Defence, x: Tensor, generator: torch.Generator, first: Tensor
) -> tuple[float | None, str | None]:
    half = x[: len(x) // 2]
    try:
        answers = defence.logits(half, defence.sample(generator, len(half)))
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    if answers.shape != (len(half), first.shape[1]):
        return None, f"logits of shape {tuple(answers.shape)}"
    if defence.randomised or defence.batch_dependent:
        return None, None
    return (answers - first[: len(half)]).abs().max().item(), None


def _other_slot(defence: Defence, x: Tensor, draw: Draw, first: Tensor) -> float | None:
    if defence.randomised:
        return None
    return (defence.logits(x.roll(1, 0), draw).roll(-1, 0) - first).abs().max().item()


def _global_state(defence: Defence, x: Tensor, generator: torch.Generator) -> float:
    """The draw itself is made twice, too: it must come from its generator alone."""
    state, answers = generator.get_state(), []
    for seed in (1, 2):
        generator.set_state(state)
        with seeded_globally(seed):
            answers.append(defence.logits(x, defence.sample(generator, len(x))))
    return (answers[0] - answers[1]).abs().max().item()


def _grouped(defence: Defence, x: Tensor, draws: list[Draw]) -> float | None:
    if getattr(defence, "logits_grouped", None) is None:
        return None
    pair = torch.stack([x, 1 - x])
    together = logits_grouped(defence, pair, draws[:2])
    apart = torch.stack([defence.logits(batch, draw) for batch, draw in zip(pair, draws)])
    return (together - apart).abs().max().item()


def _gradients(defence: Defence, x: Tensor, draw: Draw) -> dict[str, Any]:
    def gradient(loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        at = x.detach().clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss_of(defence.logits(at, draw)), at, allow_unused=True)
        return torch.zeros_like(x) if grad is None else grad

    def cross_entropy(logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits, logits.argmax(-1), reduction="sum")

    def margin(logits: Tensor) -> Tensor:
        top = logits.topk(2, dim=-1).values
        return (top[:, 0] - top[:, 1]).sum()

    def half(logits: Tensor) -> Tensor:
        # Weights of both signs and different sizes, so that nothing cancels.
        weights = torch.arange(1, logits.shape[1] + 1).to(logits).cos()
        return (logits[::2] * weights).sum()

    with torch.enable_grad():
        try:
            by_cross_entropy = gradient(cross_entropy)
        except RuntimeError:
            return {"no_gradient": True, "zero_gradients": 1.0, "zero_margin_gradients": 1.0}
        by_margin, by_half = gradient(margin), gradient(half)
    own, across = by_half[::2].abs().max().item(), by_half[1::2].abs().max().item()
    return {
        "zero_gradients": _share(by_cross_entropy == 0),
        "zero_margin_gradients": _share(by_margin == 0),
        "nan_gradients": 1 - _share(torch.isfinite(by_cross_entropy)),
        "cross_gradient": across / own if own > 0 else float(across > 0),
    }


def _share(true: Tensor) -> float:
    """Share of inputs at which all pixels are true."""
    return true.flatten(1).all(1).double().mean().item()


def _in_double(defence: Defence, x: Tensor, draw: Draw, first: Tensor) -> float | None:
    try:
        precise = copy.deepcopy(defence)
        for part in modules_of(precise):
            part.double()
        answers = precise.logits(x.double(), draw)
    except Exception:  # nothing says that a defence can be copied or cast
        return None
    return (answers - first).abs().max().item() if answers.dtype == torch.float64 else None


def _training_layers(defence: Defence) -> Iterator[str]:
    for top in modules_of(defence):
        for name, layer in top.named_modules():
            if layer.training and isinstance(layer, _MODE_LAYERS):
                yield name or type(layer).__name__
