"""Measures the properties of a defence with a few forward passes of one batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from attacks.gradients import NoGradient, raise_machine_fault, slope
from robustbench_coded.defences.memory import own_cross_entropy
from robustbench_coded.defences.per_batch import changed_by
from robustbench_coded.defences.probe_findings import DRAWS, ProbeResult
from robustbench_coded.defences.protocol import Defence, Draw, logits_grouped, misshapen
from robustbench_coded.defences.sampling import SamplingModule, seeded_globally
from robustbench_coded.errors import InputError, described
from robustbench_coded.models.in_memory import networks_in

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

    if answers(len(x)):
        return ""
    halves = [len(x) >> times for times in range(1, len(x).bit_length())]
    fits = next(filter(answers, halves), None)
    return "" if fits is None else f"; it answers {fits} inputs at once: try --batch-size {fits}"


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
            kind = str(first.dtype).removeprefix("torch.")
            raise InputError(f"{defence.name} answers with {kind}, not with floating-point logits")
        answers = [first, *(defence.logits(x, draw).clone() for draw in draws[1:])]
        outputs = answers
        if whole is not None:
            drawn = (defence.sample(generator, len(whole)) for _ in range(DRAWS))
            outputs = [defence.logits(whole, draw).clone() for draw in drawn]
        unanswered = 1 - torch.stack([output.isfinite().all(-1) for output in outputs]).float().mean().item()
        if unanswered == 1:
            return ProbeResult(len(x), 0.0, shape, unanswered)
        co_batched, co_batched_by = _worst_co_batched(defence, x, draws[0], first)
        groups = GROUPED[:1] if whole is None else GROUPED
        measured: dict[str, Any] = {
            "same_draw": changed_by(first, defence.logits(x, draws[0])),
            "other_draws": max(changed_by(first, other) for other in answers[1:]),
            "global_state": _global_state(defence, x, generator),
            "co_batched": co_batched,
            "co_batched_by": co_batched_by,
            "all_co_batched": _all_co_batched(defence, x, draws[0], first),
            "grouped": _grouped_otherwise(defence, x, draws, groups),
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
    half, wrong = x[: len(x) // 2], None
    try:
        answers = defence.logits(half, defence.sample(generator, len(half)))
        if answers.ndim != 2 or len(answers) != len(half):
            wrong = f"logits of shape {tuple(answers.shape)}"
    except Exception as error:
        raise_machine_fault(error)
        wrong = f"{type(error).__name__}: {error}"
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
        both = min(len(batch), len(usual))
        try:
            sizes.append(changed_by(first[:both], defence.logits(batch, draw)[:both]))
        except Exception as error:  # it may take no other size, and says so where it is asked for one
            raise_machine_fault(error)
    return {"other_size_error": wrong, "other_size": max(sizes), "other_slot": max(slots)}


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
        weights = torch.arange(1, logits.shape[1] + 1).to(logits).cos()
        return (logits[::2] * weights).sum()

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
