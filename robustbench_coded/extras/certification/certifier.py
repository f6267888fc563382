"""Certifiers of a defence, one for each kind of bound that it allows.

Every certifier has

    method              how it works, in words
    inputs, randomness  the threat models that its bounds hold under
    chance              whether they are probabilities of a right answer in a fresh draw; else of one draw
    right(...)          float64 [K] for a batch: 1 where an input is right in this draw whatever is done
                        within its region, else 0; or a lower bound on how probable a right answer is

Defences are recognised by their very class: what a subclass changes is not known here.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from scipy.special import bdtrc, betaincinv
from torch import Tensor, nn
from torch.special import ndtr, ndtri

from robustbench_coded.defences.inferences import GaussianNoise, Standard, standard_normal
from robustbench_coded.defences.protocol import Defence, Draw
from robustbench_coded.evaluation.execution.target import draws_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning import cases, streams
from robustbench_coded.extras.certification import bounds
from robustbench_coded.extras.certification.graph import Graph, NotCertifiable, graph_of
from robustbench_coded.extras.published.smoothing import RandomisedSmoothing
from robustbench_coded.models.prepare import tf32
from robustbench_coded.runs.certificates import Certificate
from robustbench_coded.schema.case import Perturbation

# Gaussian smoothing: how probable a right answer stays under l2 perturbations (arXiv 1902.02918).
#
# A network that answers x + noise, noise normal with deviation sigma, is right with some probability p.
# Whatever the network is, moving x by r in l2 leaves at least Phi(Phi^-1(p) - r / sigma) of it (theorem 1, by
# the Neyman-Pearson lemma). p is not known, so noisy copies are counted: Clopper and Pearson's exact lower
# bound holds with probability 1 - alpha for each of n examples, and with ``ALPHA`` / n each for all of them.


ALPHA = 1e-3  # that the bound of any example of a subject is too high
SAMPLES = 1_000  # noisy copies of each example
IMAGES = 512  # in one forward


@torch.no_grad()
def count_right(
    model: nn.Module, x: Tensor, y: Tensor, sigma: float, samples: int, generator: torch.Generator
) -> Tensor:
    """How many of ``samples`` noisy copies of each example the model answers rightly, int64 [n].

    Args:
        model: pixels -> logits. x: [n, C, H, W]; y: labels [n].
        generator: a CPU generator, so that the counts are the same on every device.
    """
    counts = torch.zeros(len(x), dtype=torch.int64)
    together = max(1, IMAGES // len(x))
    for start in range(0, samples, together):
        copies = min(together, samples - start)
        noise = torch.randn(copies, *x.shape, generator=generator).to(x)
        answers = model((x + sigma * noise).flatten(0, 1)).argmax(-1).view(copies, -1)
        counts += (answers == y).sum(0).cpu()
    return counts


def probability(right: Tensor, samples: int, alpha: float) -> Tensor:
    """Exact lower bound on the probability of a right answer; wrong with probability alpha. float64 [n]."""
    counts = right.double().numpy()
    low = betaincinv(counts, samples - counts + 1, alpha)
    return torch.from_numpy(low).nan_to_num(0.0).where(right > 0, 0.0)


def moved(p: Tensor, radius: Tensor, sigma: float) -> Tensor:
    """Lower bounds on probabilities p [n] after moves by at most ``radius`` [n] in l2."""
    return ndtr(ndtri(p) - radius.cpu() / sigma)


def majority(p: Tensor, votes: int) -> Tensor:
    """The probability that more than half of ``votes`` independent copies are right, each with p [n]."""
    return torch.from_numpy(bdtrc(votes // 2, votes, p.double().clamp(0, 1).numpy()))


# Classes, and none that inherit from them: those that answer as ``.model`` does, and those that take a
# majority of ``.votes`` answers of it under noise of deviation ``.sigma``. Defences elsewhere add theirs.
ALONE: set[type] = {Standard}
SMOOTHED: set[type] = {RandomisedSmoothing}

SEPARATE = ("batch", "victim", "co-batch")  # whose inputs may be the attacker's, where each is answered alone


def certifiers_of(defence: Defence, images: Tensor) -> list["Certifier"]:
    """Those that a defence allows.

    Args:
        images: two or more [n, C, H, W] in [0, 1], on its device.

    Raises:
        NotCertifiable: there is none.
    """
    kind = type(defence)
    if kind in ALONE:
        return [StandardCertifier(graph_of(defence.model, images))]  # type: ignore[attr-defined]
    if isinstance(defence, GaussianNoise) and kind is GaussianNoise:
        certifiers: list[Certifier] = [Smoothing(defence.model, defence.sigma, votes=1)]
        with suppress(NotCertifiable):
            certifiers.append(StandardCertifier(graph_of(defence.model, images), defence.sigma))
        return certifiers
    if kind in SMOOTHED:
        of_votes: Any = defence
        return [Smoothing(of_votes.model, of_votes.sigma, of_votes.votes)]
    raise NotCertifiable(f"{defence.name} is none of the defences that have bounds here")


def _method(graph: Graph) -> str:
    return "linear bounds" if bounds.follows_all(graph) else "interval bounds, margins by linear bounds"


@dataclass
class StandardCertifier:
    """A network that answers every input by itself; Gaussian noise of deviation ``sigma`` is known."""

    graph: Graph
    sigma: float = 0.0
    inputs = SEPARATE
    randomness = ("unknown", "known")
    chance = False

    @property
    def method(self) -> str:
        return f"{_method(self.graph)} in every draw" if self.sigma else _method(self.graph)

    def right(
        self, region: bounds.Region, y: Tensor, draw: Draw, generator: torch.Generator, examples: int
    ) -> Tensor:
        around = region.moved(self._noise(draw, region.centre)) if self.sigma else region
        return (bounds.least_margins(self.graph, around, y).amin(1) > 0).double()

    def _noise(self, draw: Draw, x: Tensor) -> Tensor:
        return self.sigma * standard_normal(draw, x.shape).to(x.device).double()


@dataclass
class Smoothing:
    """Gaussian noise made after the attack, one noisy copy or a majority of several."""

    model: nn.Module
    sigma: float
    votes: int
    inputs = SEPARATE
    randomness = ("unknown",)
    chance = True
    method = "Gaussian smoothing"

    def right(
        self, region: bounds.Region, y: Tensor, draw: Draw, generator: torch.Generator, examples: int
    ) -> Tensor:
        x = region.centre.float()
        counted = count_right(self.model, x, y, self.sigma, SAMPLES, generator)
        p = moved(probability(counted, SAMPLES, ALPHA / examples), region.reach(), self.sigma)
        return majority(p, self.votes)


Certifier = StandardCertifier | Smoothing


# The certificates of one subject of a run, on the batches and draws that its attacks are scored on.


@tf32(False)
def certify_subject(
    context: WorkerContext, subject: cases.ProbedSubject, perturbation: Perturbation
) -> Sequence[Certificate]:
    """One certificate for each kind of bound that the defence allows; where there is none, why."""
    defence = context.defence(subject)
    x, _ = context.group(context.batches(subject)[:1])
    images = torch.cat([x[0], x[0]]) if x.shape[1] == 1 else x[0]
    try:
        return [
            _certificate(context, subject, perturbation, defence, certifier)
            for certifier in certifiers_of(defence, images)
        ]
    except NotCertifiable as reason:
        return [Certificate(subject=subject.subject, perturbation=perturbation, missing=str(reason))]


def _certificate(
    context: WorkerContext,
    subject: cases.ProbedSubject,
    perturbation: Perturbation,
    defence: Defence,
    certifier: Certifier,
) -> Certificate:
    conditions = context.setup.conditions
    normalized = perturbation.eps_space == "normalized"
    unit = torch.tensor(context.checkpoint(subject.checkpoint).deviation) if normalized else None
    # Where the draw is known, that many draws are attacked at all.
    draws = range(conditions.known_draws if defence.randomised and not certifier.chance else 1)
    batches = context.batches(subject)
    examples = sum(batch.scored for batch in batches)
    numbers: list[int] = []
    of_batch: list[int] = []
    right: list[list[float]] = []
    for batch in batches:
        group, labels = context.group([batch])
        x, y = group[0], labels[0]
        region = bounds.Region.around(x, perturbation.norm, perturbation.eps, unit)
        hits = []
        for index in draws:
            (draw,) = draws_of(defence, batch.k, conditions.seed, [batch.index], "scoring", index)
            own = streams.stream(conditions.seed, batch.index, "certificate", index)
            hits.append(certifier.right(region, y, draw, own, examples)[: batch.scored])
        right += torch.stack(hits, dim=1).tolist()
        numbers += [int(context.numbers[member]) for member in batch.members[: batch.scored]]
        of_batch += [batch.index] * batch.scored
    return Certificate(
        subject=subject.subject,
        perturbation=perturbation,
        inputs=certifier.inputs,
        randomness=certifier.randomness,
        method=certifier.method,
        chance=certifier.chance,
        alpha=ALPHA if certifier.chance else None,
        samples=SAMPLES if certifier.chance else None,
        example=tuple(numbers),
        batch=tuple(of_batch),
        draw=tuple(draws),
        right=tuple(map(tuple, right)),
    )
