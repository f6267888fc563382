"""Every defence is probed before it is evaluated, and refused if what it does contradicts what it says."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.defences.memory import memory_of
from robustbench_coded.defences.per_batch import stated_protocol
from robustbench_coded.defences.probe import blamed_on, other_slot, probe
from robustbench_coded.defences.probe_findings import contradictions, warnings
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.sampling_module import SamplingModule
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.time_limit import TimeLimitExceeded, time_limit

# A probe is some twenty forwards of one batch: what takes longer hangs, or is too slow to be attacked.
PROBE_SECONDS = 1800.0
FEWEST, MOST = 8, 16  # inputs of the probed batch: enough to see a dependence, and half of them still a batch
REMEMBERED = 32  # inputs of the batch on which a memory is looked for


@dataclass(frozen=True)
class Probed:
    """What a probe found.

    Attributes:
        figures: what was measured.
        contradictions: where the defence does not do what it says of itself, a clause each.
        warnings: what is allowed but may mislead, a clause each.
    """

    figures: dict[str, Any]
    contradictions: tuple[str, ...]
    warnings: tuple[str, ...]


def probe_batch(data: Dataset, k: int, most: int = MOST) -> Tensor:
    """The first examples, in a batch of about the size that will be evaluated, [size, C, H, W]."""
    size = min(max(k, FEWEST), most)
    return data.batch([i % len(data) for i in range(size)])[0]


def gradient_figures(defence: Defence, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """How usable the gradients of the cross-entropy are, on one batch x [k, C, H, W] with labels y [k].

    Returns:
        zero_share: inputs whose gradient is 0 in every pixel; and, for a randomised defence, between two
        draws: cosine (mean over inputs) and sign (share of pixels whose gradients have the same sign).
    Raises:
        InputError: the defence fails on the batch.
    """
    with blamed_on(defence, x):
        return _gradient_figures(defence, x, y, seed)


def _gradient_figures(defence: Defence, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    draws = [defence.sample(stream(seed, -1, "probe", i), len(x)) for i in (1, 2)]
    grads = []
    for draw in draws if defence.randomised else draws[:1]:
        leaf = x.clone().requires_grad_()
        loss = functional.cross_entropy(defence.logits(leaf.clone(), draw), y, reduction="sum")
        grads.append(torch.autograd.grad(loss, leaf)[0].flatten(1))
    figures = {"zero_share": float((grads[0] == 0).all(1).float().mean())}
    if len(grads) == 2:
        figures["cosine"] = float(functional.cosine_similarity(grads[0], grads[1]).mean())
        figures["sign"] = float((grads[0].sign() == grads[1].sign()).float().mean())
    return figures


def probed(
    defence: Defence, x: Tensor, seed: int, *, remembers: Tensor | None = None, whole: Tensor | None = None
) -> Probed:
    """Probes a defence on one batch, and settles what a plain module left open about itself.

    Args:
        remembers: for somebody else's code, images [k, C, H, W] on which it is asked for a memory before all
            else; None where there can be none.
        whole: for somebody else's code, a batch of the size that will be evaluated: slots that ``x`` lacks
            may answer otherwise.

    Raises:
        InputError: the defence fails on the batch, or does not answer in PROBE_SECONDS.
    """
    dtype = torch.get_default_dtype()
    try:
        with time_limit(PROBE_SECONDS):
            state = [] if remembers is None else _memory(defence, remembers, seed)
            result = probe(defence, x, stream(seed, -1, "probe"))
            if whole is not None and result.other_slot is not None and not defence.batch_dependent:
                result = replace(result, other_slot=max(result.other_slot, _other_slot(defence, whole, seed)))
    except TimeLimitExceeded:
        raise InputError(
            f"{defence.name} hangs: its probe, some twenty forwards of a batch of shape {tuple(x.shape)}, "
            f"took longer than {PROBE_SECONDS:g} s"
        ) from None
    finally:
        now = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
    if now != dtype:
        state.append(f"changes torch's default dtype to {now} for everything else in this process")
    if isinstance(defence, SamplingModule):
        defence.settle(randomised=result.randomised, batch_dependent=result.batch_dependent)
    found = (*state, *contradictions(defence, result))
    return Probed(asdict(result), found, (*warnings(defence, result), *stated_protocol(defence)))


def _other_slot(defence: Defence, x: Tensor, seed: int) -> float:
    with blamed_on(defence, x), torch.no_grad():
        draw = defence.sample(stream(seed, -1, "probe", 4), len(x))
        moved = other_slot(defence, x, draw, defence.logits(x, draw))
    return 0.0 if moved is None else moved


def _memory(defence: Defence, x: Tensor, seed: int) -> list[str]:
    with blamed_on(defence, x):
        return memory_of(defence, x, stream(seed, -1, "probe", 3))
