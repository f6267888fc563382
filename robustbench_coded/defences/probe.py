"""Measures the properties of a defence with a few forward passes of one batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from attacks.gradients import NoGradient, raise_machine_fault, slope
from robustbench_coded.defences.memory import own_cross_entropy
from robustbench_coded.defences.per_batch import changed_by
from robustbench_coded.defences.protocol import Defence, Draw, logits_grouped, misshapen, reject_class
from robustbench_coded.defences.sampling import SamplingModule, seeded_globally
from robustbench_coded.errors import InputError, described
from robustbench_coded.models.in_memory import networks_in
from robustbench_coded.schema.words import STANDARD

# Changes below this share of the largest logit are rounding. Another batch size may be computed by another
# algorithm, on a GPU in less precision, hence the looser second figure.
ROUNDING = 1e-4
ROUNDING_ACROSS_SIZES = 1e-2
_ACROSS_SIZES = ("other_size", "other_slot", "grouped")
# Draws that are compared with each other.
DRAWS = 4
# What a network that samples out of sight can do.
_UNSEEDED = (
    "; let the network draw from torch's, numpy's or Python's global generators, or from generators that are "
    "attributes of its modules: those are set before each answer"
)
# Share of clean inputs without an answer up to which these are errors of a defence like any other.
UNANSWERED = 0.05


@dataclass(frozen=True)
class ProbeResult:
    """Measurements of a probe. Changes are the largest absolute change of any logit, in units of logits.

    Attributes:
        k: inputs in the batch.
        scale: largest absolute logit.
        shape: of the logits, which should be (k, classes).
        unanswered: share of inputs, over DRAWS draws, with a logit that is NaN or infinite. Where it is 1
            nothing else was measured.
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
        no_gradient: why logits cannot be differentiated in the input, a clause; empty where they can.
        zero_gradients: share of inputs at which cross-entropy has gradient zero in every pixel.
        nan_gradients: share of inputs with NaN or infinite gradients.
        training_layers: batch normalisation and dropout left in training mode, by name.
    """

    k: int
    scale: float
    shape: tuple[int, ...]
    unanswered: float
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
    no_gradient: str = ""
    zero_gradients: float = 0.0
    nan_gradients: float = 0.0
    training_layers: tuple[str, ...] = field(default=())

    @property
    def randomised(self) -> bool:
        """True if some draw gave another answer."""
        return self.moved("other_draws")

    @property
    def batch_dependent(self) -> bool:
        """True if some answer followed its co-batched inputs."""
        return any(map(self.moved, ("co_batched", "all_co_batched", "cross_gradient")))

    def moved(self, figure: str) -> bool:
        """True if a change of this name was measured, and is more than rounding."""
        change = getattr(self, figure)
        if figure == "cross_gradient":  # a share
            return change > ROUNDING
        rounding = ROUNDING_ACROSS_SIZES if figure in _ACROSS_SIZES else ROUNDING
        # NaN compares false with everything; it must count as a change.
        return change is not None and not change <= rounding * self.scale


_OR_DRAW = (
    ", or let an input use the same random numbers whatever the others are (torch.poisson and torch.binomial "
    "take more or fewer)"
)


def contradictions(defence: Defence, result: ProbeResult) -> list[str]:
    """Contradictions to its declaration or to the protocol: one line each, to follow "it"."""
    sentences = [wrong] if (wrong := misshapen(defence, result.k, result.shape)) else []
    if result.unanswered > UNANSWERED:
        sentences.append(
            f"answers {result.unanswered:.0%} of clean inputs with NaN or infinite logits, and at most "
            f"{UNANSWERED:.0%} may be errors"
        )
    if sentences:
        return sentences
    if result.moved("same_draw") and defence.name == STANDARD:
        return [f"answers the same input differently when asked again, by {result.same_draw:.2g}{_UNSEEDED}"]
    declared = alone = "is declared batch-independent, but"
    if "batch_dependent" in getattr(defence, "undeclared", ()):
        alone = "seems to classify inputs independently of the others in the batch, but"
    mend = "; set batch_dependent = True" + (_OR_DRAW if defence.randomised else "")
    # Figures that may not move, by what the defence declares: of each group the first is said.
    again = {
        "same_draw": "gives different logits for the same input and draw: they changed by {:.2g}",
        "global_state": "depends on the global random generators beside its draw: reseeding them changed "
        "logits by {:.2g}",
    }
    other_draw = {"other_draws": "is declared not randomised, but another draw changed logits by {:.2g}"}
    others = {
        "co_batched": f"{declared} changing one co-batched input changed logits by {{:.2g}} "
        f"({result.co_batched_by}){mend}",
        "all_co_batched": f"{declared} changing the co-batched inputs changed logits by {{:.2g}}{mend}",
        "cross_gradient": f"{declared} answers have {{:.2g}} of their gradient in co-batched inputs{mend}",
        "other_size": f"{alone} another batch size changed logits by {{:.2g}}{mend}",
        "other_slot": f"{alone} moving the inputs to other positions in the batch changed their logits by "
        f"{{:.2g}}{mend}",
    }
    grouped = {"grouped": "answers batches in a group (logits_grouped) otherwise than alone, by {:.2g}"}
    groups = (
        again,
        {} if defence.randomised else other_draw,
        {} if defence.batch_dependent else others,
        grouped,
    )
    for group in groups:
        if moved := next(filter(result.moved, group), None):
            sentences.append(group[moved].format(getattr(result, moved)))
    return sentences


def warnings(defence: Defence, result: ProbeResult) -> list[str]:
    """Allowed properties that may mislead an evaluation, one line each."""
    names = ", ".join(result.training_layers[:3])
    more = f" and {len(result.training_layers) - 3} more" if len(result.training_layers) > 3 else ""
    undeclared = "randomised" in getattr(defence, "undeclared", ())
    claim = "draws random numbers" if undeclared else "is declared randomised"
    found = {
        f"it answers {result.unanswered:.1%} of clean inputs with NaN or infinite logits, which count as "
        "errors": result.unanswered,
        f"the cross-entropy gradient is zero at {result.zero_gradients:.0%} of inputs": result.zero_gradients
        and not result.no_gradient,
        f"gradients are NaN or infinite at {result.nan_gradients:.0%} of inputs": result.nan_gradients,
        f"layers in training mode: {names}{more}": names,
        f"cannot answer {result.k // 2} inputs: {result.other_size_error}": result.other_size_error,
        f"{claim}, but {DRAWS} draws gave the same answers": defence.randomised and not result.randomised,
        "is declared batch-dependent, but no logits changed with the co-batched inputs": (
            defence.batch_dependent and not result.batch_dependent
        ),
    }
    return [sentence for sentence, holds in found.items() if holds]


def unanswering_base(defence: Defence, x: Tensor, logits: int) -> list[str]:
    """The fault of a defence's base model, if any: one clause at most, to follow "it".

    Attacks through the base model need its answers to the defence's inputs, and their gradients.

    Args:
        x: images [k, C, H, W] in [0, 1].
        logits: how many the defence answers for each input.
    """
    if defence.base is None:
        return []
    classes, adjective = logits - (reject_class(defence) is not None), ""
    leaf = x.clone().requires_grad_()
    try:
        with torch.enable_grad():
            answer = defence.base(leaf.view_as(leaf))
            adjective = "perturbed "
            sign = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x).sub(0.5).sign()
            for moved in (x + 0.03 * sign, 1 - x):  # as attacks make them: off the data's levels, and far
                defence.base(moved.clamp(0, 1))
        shape = tuple(answer.shape)
    except (Exception, SystemExit) as error:  # user code can fail in any way
        raise_machine_fault(error)
        where = f"a {adjective}batch of shape {tuple(x.shape)}"
        return [f"names a base model that fails on {where}: {described(error)}"]
    if shape == (len(x), classes):
        lost = "names a base model whose answers have no gradient, which attacks take; let base be None"
        return [] if answer.requires_grad else [lost]
    return [f"names a base model that answers {len(x)} inputs with shape {shape}, not {(len(x), classes)}"]


_MODE_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)


SMALL = (1, 2, 3, 5)  # batches of so many inputs: one that is sent alone meets the same defence
GROUPED = (2, 9)  # batches that are answered in a group: an answer may depend on how many they are


def probe(
    defence: Defence, x: Tensor, generator: torch.Generator, whole: Tensor | None = None
) -> ProbeResult:
    """Measures randomness, batch dependence and gradients of a defence in about twenty forward passes.

    Settles what a plain module leaves open about itself.

    Args:
        defence: any defence; what it declares is not used but to know which comparisons mean something.
        x: float32 images [k, C, H, W] in [0, 1]; 8 to 16 are enough, and half of them must be enough, too.
        generator: CPU generator of the draws.
        whole: for user code, a batch of the size that will be evaluated, which begins as ``x`` does: slots
            and sizes that ``x`` lacks may answer otherwise.
    Raises:
        InputError: the defence raises an exception when it is asked, or answers with something else than
            floating-point numbers.
    """
    with blamed_on(defence, x):
        return _measured(defence, x, generator, whole)


@contextmanager
def blamed_on(defence: Defence, x: Tensor) -> Iterator[None]:
    """Attributes every exception inside to the defence, because user code can fail in any way."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise_machine_fault(error)
        raise InputError(
            f"{defence.name} fails on a batch of shape {tuple(x.shape)}: {described(error)}"
            f"{_smaller_batches(defence, x)}"
        ) from error


def _smaller_batches(defence: Defence, x: Tensor) -> str:
    """What to try where the defence answers fewer inputs at once; empty where that is not what is wrong."""
    generator = torch.Generator().manual_seed(0)

    def answers(k: int) -> bool:
        with torch.no_grad(), suppress(Exception, SystemExit):
            defence.logits(x[:k], defence.sample(generator, k))
            return True
        return False

    halves = [len(x) >> times for times in range(len(x).bit_length())]
    fits = next(filter(answers, halves), None)
    return "" if fits in (None, len(x)) else f"; it answers {fits} inputs at once: try --batch-size {fits}"


def _measured(defence: Defence, x: Tensor, generator: torch.Generator, whole: Tensor | None) -> ProbeResult:
    draws = [defence.sample(generator, len(x)) for _ in range(DRAWS)]
    with torch.no_grad():
        first: Any = defence.logits(x, draws[0])
        if not isinstance(first, Tensor):
            raise InputError(
                f"{defence.name} answers with {type(first).__name__}, not with a tensor of logits"
            )
        shape = tuple(first.shape)
        if misshapen(defence, len(x), shape):
            return ProbeResult(len(x), 0.0, shape, 0.0)
        if not first.is_floating_point():
            raise InputError(f"{defence.name} answers with {first.dtype}, not with floating-point logits")
        answers = [first, *(defence.logits(x, draw).clone() for draw in draws[1:])]
        outputs = answers
        if whole is not None:
            drawn = (defence.sample(generator, len(whole)) for _ in range(DRAWS))
            with blamed_on(defence, whole):
                outputs = [defence.logits(whole, draw).clone() for draw in drawn]
        unanswered = 1 - torch.stack([output.isfinite().all(-1) for output in outputs]).float().mean().item()
        if unanswered == 1:
            return ProbeResult(len(x), 0.0, shape, unanswered)
        co_batched, co_batched_by = _worst_co_batched(defence, x, draws[0], first)
        measured: dict[str, Any] = {
            "same_draw": changed_by(first, defence.logits(x, draws[0])),
            "other_draws": max(changed_by(first, other) for other in answers[1:]),
            "global_state": _global_state(defence, x, generator),
            "co_batched": co_batched,
            "co_batched_by": co_batched_by,
            "all_co_batched": _all_co_batched(defence, x, draws[0], first),
            "grouped": _grouped_otherwise(defence, x, draws, GROUPED[:1] if whole is None else GROUPED),
            "training_layers": tuple(_training_layers(defence)),
        }
    measured |= _gradients(defence, x, draws[0])
    scale = first.nan_to_num(0.0, 0.0, 0.0).abs().max().item()
    result = ProbeResult(len(x), scale, shape, unanswered, **measured)
    if isinstance(defence, SamplingModule):
        defence.settle(randomised=result.randomised, batch_dependent=result.batch_dependent)
    with torch.no_grad():
        return replace(result, **_in_other_batches(defence, x, generator, whole))


def _changes(x: Tensor) -> Iterator[tuple[str, int, Tensor]]:
    """What one input of the batch is changed to: in words, its slot, its new pixels."""
    k = len(x)
    yield "made black", 0, torch.zeros_like(x[0])
    yield "made white", k - 1, torch.ones_like(x[0])
    yield "made negative", k // 2, 1 - x[k // 2]
    yield "made noise", 1, torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
    yield "made a copy of another", k - 2, x[0]


def _worst_co_batched(defence: Defence, x: Tensor, draw: Draw, first: Tensor) -> tuple[float, str]:
    worst, by = 0.0, ""
    for name, slot, pixels in _changes(x):
        changed = x.clone()
        changed[slot] = pixels
        others = torch.arange(len(x)) != slot
        change = changed_by(first[others], defence.logits(changed, draw)[others])
        if change > worst:
            worst, by = change, name
    return worst, by


def _all_co_batched(defence: Defence, x: Tensor, draw: Draw, first: Tensor) -> float:
    worst = 0.0
    for victim in (0, len(x) - 1):
        changed = 1 - x.roll(1, 0)
        changed[victim] = x[victim]
        worst = max(worst, changed_by(first[victim], defence.logits(changed, draw)[victim]))
    return worst


def _in_other_batches(
    defence: Defence, x: Tensor, generator: torch.Generator, whole: Tensor | None
) -> dict[str, Any]:
    """What other sizes and slots of batches change: up to twice the size of ``whole``, half of ``x`` without.

    Every input moves on by a slot, and keeps its neighbours.
    """
    half = x[: len(x) // 2]
    _, wrong = _answered(defence, half, defence.sample(generator, len(half)))
    if defence.randomised or defence.batch_dependent:
        return {"other_size_error": wrong}
    usual = x if whole is None else whole
    draw = defence.sample(generator, len(usual))
    first = defence.logits(usual, draw).clone()  # it may answer with one buffer
    sizes, slots = [0.0], [changed_by(first, defence.logits(usual.roll(1, 0), draw).roll(-1, 0))]
    others = [half]
    if whole is not None:
        own = defence.logits(x, draw).clone()
        slots.append(changed_by(own, defence.logits(x.roll(1, 0), draw).roll(-1, 0)))
        others += [x, torch.cat([whole, whole]), *(x[:size] for size in SMALL)]
    for batch in others:
        answers, fault = _answered(defence, batch, draw)
        if answers is None:  # it may take no other size, and says so where it is asked for one
            continue
        if fault:
            raise InputError(f"{defence.name} {fault}")
        sizes.append(changed_by(first[: len(batch)], answers[: len(usual)]))
    return {"other_size_error": wrong, "other_size": max(sizes), "other_slot": max(slots)}


def _answered(defence: Defence, x: Tensor, draw: Draw) -> tuple[Tensor | None, str | None]:
    """Its answers, None where it raises, and what is wrong with them."""
    try:
        answers = defence.logits(x, draw)
    except Exception as error:
        raise_machine_fault(error)
        return None, f"{type(error).__name__}: {error}"
    return answers, misshapen(defence, len(x), tuple(answers.shape))


def _global_state(defence: Defence, x: Tensor, generator: torch.Generator) -> float:
    """The draw itself is made twice, too: it must come from its generator alone."""
    state, answers = generator.get_state(), []
    for seed in (1, 2):
        generator.set_state(state)
        with seeded_globally(seed):
            answers.append(defence.logits(x, defence.sample(generator, len(x))))
    return changed_by(*answers)


def _grouped_otherwise(
    defence: Defence, x: Tensor, draws: Sequence[Draw], sizes: Sequence[int]
) -> float | None:
    """How far logits of so many batches move when they are answered in a group; None where none can be."""
    if getattr(defence, "logits_grouped", None) is None:
        return None
    batches = torch.stack([(1 - x if i % 2 else x).roll(i // 2, 0) for i in range(max(sizes))])
    group_draws = [draws[i % len(draws)] for i in range(max(sizes))]
    apart = torch.stack([defence.logits(batch, draw) for batch, draw in zip(batches, group_draws)])
    return max(changed_by(apart[:n], logits_grouped(defence, batches[:n], group_draws[:n])) for n in sizes)


def _gradients(defence: Defence, x: Tensor, draw: Draw) -> dict[str, Any]:
    def gradient(loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        return slope(lambda leaf: defence.logits(leaf, draw), loss_of, x)

    def half(logits: Tensor) -> Tensor:
        # Weights of both signs and different sizes, so that nothing cancels.
        return (logits[::2] * torch.arange(1, logits.shape[1] + 1).to(logits).cos()).sum()

    try:
        by_cross_entropy = gradient(own_cross_entropy)
        by_half = gradient(half).nan_to_num(0.0, 0.0, 0.0)
    except NoGradient as error:
        return {"no_gradient": error.why, "zero_gradients": 1.0}
    own, across = by_half[::2].abs().max().item(), by_half[1::2].abs().max().item()
    return {
        "zero_gradients": _share(by_cross_entropy == 0),
        "nan_gradients": 1 - _share(torch.isfinite(by_cross_entropy)),
        "cross_gradient": across / own if own > 0 else float(across > 0),
    }


def _share(true: Tensor) -> float:
    """Share of inputs at which all pixels are true."""
    return true.flatten(1).all(1).cpu().double().mean().item()


def _training_layers(defence: Defence) -> Iterator[str]:
    for top in networks_in(defence):
        for name, layer in top.named_modules():
            if layer.training and isinstance(layer, _MODE_LAYERS):
                yield name or type(layer).__name__
