"""Every defence is probed before it is evaluated, and refused if what it does contradicts what it
says; its operators are relaxed once, to see whether they hide its gradient.
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attacks import gradients, oracle
from attacks.relaxation import Relaxation
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.defences import probe_findings
from robustbench_coded.defences.memory import memory_of
from robustbench_coded.defences.per_batch import stated_protocol
from robustbench_coded.defences.probe import blamed_on, probe
from robustbench_coded.defences.protocol import Defence, Draw, too_few_classes
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.models.pixel_model import images_at_once
from robustbench_coded.reports.text.formatting import hiding_text
from robustbench_coded.user_code import TimeLimitExceeded, time_limit

# Share of inputs without a gradient from which on the relaxed one is tried, whatever the operators.
ZERO_SHARE = 0.1
LARGEST = 16  # inputs asked about


@dataclass(frozen=True)
class HiddenGradients:
    """Operators that hide the gradient, on one batch.

    Attributes:
        operators: those that most of the gradient vanishes in, as plain data: operator, calls, cut, scale.
        without: why torch's own gradient does not exist, a clause; empty where it does.
        relaxable: whether there is a gradient with the operators relaxed.
    """

    operators: tuple[dict[str, Any], ...] = ()
    without: str = ""
    relaxable: bool = True

    @property
    def sentences(self) -> list[str]:
        """A clause for each operator, and one where nothing helps."""
        sentences = [f"{hiding_text(op)}; relaxed- attacks replace this gradient" for op in self.operators]
        if self.without:
            sentences.append(f"{self.without}: attacks on torch's own gradients are left out")
        if not self.relaxable:
            sentences.append(
                "with smooth operators there is no gradient either: attacks by queries and transfer are run, "
                "which find less than gradients would"
            )
        return sentences


def hidden_gradients(
    defence: Defence, x: Tensor, y: Tensor, seed: int, *, without: str = ""
) -> HiddenGradients:
    """Records what a defence's gradient passes through on x [k, C, H, W] with labels y [k].

    Args:
        without: why torch's own gradient does not exist, where it does not.
    """
    x, y = _batch(defence, x), _batch(defence, y)
    draw = defence.sample(stream(seed, -1, "probe", 1), len(x))
    relaxation = Relaxation(measuring=True)
    relaxable = bool(_gradient(defence, x, y, draw, relaxation).any())
    return HiddenGradients(tuple(op.plain() for op in relaxation.record.hiding()), without, relaxable)


def _batch(defence: Defence, values: Tensor) -> Tensor:
    # A batch-dependent defence may take no other size.
    return values if defence.batch_dependent else values[:LARGEST]


def _gradient(defence: Defence, x: Tensor, y: Tensor, draw: Draw, relaxation: Relaxation) -> Tensor:
    """Of the cross-entropy, [k, pixels]; zero where there is none."""

    def gradient() -> Tensor:
        leaf = x.clone().requires_grad_()
        with torch.enable_grad(), relaxation.forward():
            answer = gradients.recorded(lambda x: defence.logits(x, draw), leaf.clone())
            logits = oracle.fold_unanswered(answer, y)
            loss = functional.cross_entropy(logits, y, reduction="sum")
        return gradients.gradient_or_zero(loss, leaf, strict=not relaxation.given_up)

    return torch.nan_to_num(relaxation.attempt(gradient)).flatten(1)


# A probe is some twenty forwards of one batch: what takes longer hangs, or is too slow to be attacked.
PROBE_SECONDS = 1800.0
FEWEST, MOST = 8, 16  # inputs of the probed batch: enough to see a dependence, and half of them still a batch
REMEMBERED = 32  # inputs of the batch on which a memory is looked for


@dataclass(frozen=True)
class Probed:
    """The result of a probe.

    Attributes:
        figures: what was measured.
        contradictions: where the defence does not do what it says of itself, a clause each.
        warnings: what is allowed but may mislead, a clause each.
    """

    figures: dict[str, Any]
    contradictions: tuple[str, ...]
    warnings: tuple[str, ...]


NOT_PROBED = Probed({"no_gradient": ""}, (), ())


def probe_batch(data: Dataset, k: int, most: int = MOST) -> Tensor:
    """The first examples, in a batch of about the size that will be evaluated, [size, C, H, W]."""
    size = min(max(k, FEWEST), most)
    return data.batch([i % len(data) for i in range(size)])[0]


def gradient_figures(defence: Defence, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """How usable the gradients of the cross-entropy are, on one batch x [k, C, H, W] with labels y [k];
    in two draws of a randomised defence.

    Returns:
        zero_share: inputs whose gradient is 0 in every pixel; and between two draws: cosine (mean over
        inputs) and sign (share of pixels whose gradients have the same sign).

    Raises:
        InputError: the defence fails on the batch.
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        return functional.cross_entropy(oracle.fold_unanswered(logits, y), y, reduction="sum")

    if images_at_once(x.shape[-2:].numel(), len(x)) < len(x):  # large images, whose gradients take long
        x, y = _batch(defence, x), _batch(defence, y)
    with blamed_on(defence, x):
        draws = [defence.sample(stream(seed, -1, "probe", i), len(x)) for i in (1, 2)]
        grads = []
        for draw in draws if defence.randomised else draws[:1]:
            try:
                grads.append(gradients.slope(partial(defence.logits, draw=draw), cross_entropy, x).flatten(1))
            except gradients.NoGradient:
                grads.append(torch.zeros_like(x).flatten(1))
        figures = {"zero_share": float((grads[0] == 0).all(1).float().mean())}
        if len(grads) == 2:
            figures["cosine"] = float(functional.cosine_similarity(grads[0], grads[1]).mean())
            figures["sign"] = float((grads[0].sign() == grads[1].sign()).float().mean())
        return figures


def probed(
    defence: Defence,
    x: Tensor,
    seed: int,
    *,
    highest: int = 0,
    remembers: Tensor | None = None,
    whole: Tensor | None = None,
) -> Probed:
    """Probes a defence on one batch, and settles what a plain module left open about itself.

    Args:
        highest: the highest label of the data.
        remembers: for user code, the network's or the defence's, images [k, C, H, W] on which it is asked
            for a memory before all else; None where there can be none.
        whole: for user code, a batch of the size that will be evaluated: slots that ``x`` lacks
            may answer otherwise.

    Raises:
        InputError: the defence fails on the batch, has fewer classes than the data, or does not answer in
            PROBE_SECONDS.
    """
    dtype = torch.get_default_dtype()
    try:
        with time_limit(PROBE_SECONDS):
            state: list[str] = []
            if remembers is not None:
                with blamed_on(defence, remembers):
                    state = memory_of(defence, remembers, stream(seed, -1, "probe", 3))
            result = probe(defence, x, stream(seed, -1, "probe"), whole)
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
    contradicted = probe_findings.contradictions(defence, result)
    if remembers is not None and not contradicted:
        contradicted += probe_findings.unanswering_base(defence, x, result.shape[1])
    contradictions = (*state, *contradicted)
    # No gradient and no attack could be asked for the missing classes, so that this is no mere finding.
    if not contradictions and (wrong := too_few_classes(defence, result.shape[1], highest)):
        raise InputError(f"{defence.name} {wrong}")
    return Probed(
        asdict(result), contradictions, (*probe_findings.warnings(defence, result), *stated_protocol(defence))
    )
