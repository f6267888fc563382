"""The setting of self-tests: a target, a few batches and the ball in which an attack would move them;
the short attack that all of them look along; what one of them reports.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from attacks import oracle, perturbation_budget
from attacks.gradients import gradient_or_zero
from attacks.relaxation import Relaxation

Outcome = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True)
class SelfTest:
    """The result of one self-test.

    Attributes:
        finding: one sentence with the measured figure.
        figures: shares, cosines and counts by name.
    """

    name: str
    outcome: Outcome
    finding: str
    figures: Mapping[str, float] = field(default_factory=dict)


def judged(name: str, passed: bool, finding: str, **figures: float) -> SelfTest:
    """Passed or failed."""
    return SelfTest(name, "passed" if passed else "failed", finding, figures)


def not_applicable(name: str, finding: str, **figures: float) -> SelfTest:
    """A test that says nothing about this defence, and why."""
    return SelfTest(name, "not applicable", finding, figures)


@dataclass
class Scene:
    """One subject on a few batches. Every question goes through it and is counted.

    Attributes:
        oracle: the target, as attacks query it.
        x, y: clean inputs [G, K, C, H, W] in [0, 1] and labels int64 [G, K].
        budget: where perturbed inputs must lie.
        batch_dependent: whether an answer may depend on co-batched inputs.
        generators: a CPU generator a batch, for random starts and directions.
        relaxation: gives operators that hide the gradient a smooth backward; None for torch's own gradients.
        forwards, backwards: images forwarded and differentiated so far.
    """

    oracle: oracle.Oracle
    x: Tensor
    y: Tensor
    budget: perturbation_budget.PerturbationBudget
    batch_dependent: bool
    generators: Sequence[torch.Generator]
    relaxation: Relaxation | None = None
    forwards: int = field(default=0, init=False)
    backwards: int = field(default=0, init=False)

    @property
    def examples(self) -> int:
        """G times K."""
        return self.y.numel()

    def draws(self, index: int) -> Sequence[Any]:
        """The attacker's ``index``-th draw of each batch."""
        return self.oracle.draws(index)

    def answers(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        """Logits [G, K, classes] without gradient recording, in a tensor of their own."""
        with torch.no_grad():
            return self._query(x.detach().clone(), draws).detach().clone()

    def differentiable(self, x: Tensor, draws: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """The leaf that was asked about, and its logits [G, K, classes]."""
        leaf, relaxed = x.detach().clone().requires_grad_(), self.relaxation
        with torch.enable_grad(), nullcontext() if relaxed is None else relaxed.forward():
            if relaxed is None:
                return leaf, self._query(leaf, draws)
            # A view: relaxed, a defence may change its input in place.
            return leaf, self._query(leaf.view_as(leaf), draws)

    def gradient(self, of: Tensor, leaf: Tensor, *, retain: bool = False) -> Tensor:
        """The gradient of the sum of ``of``, like ``leaf``; 0 where there is none.

        Args:
            retain: whether another gradient of the same answers will be asked for.
        """
        self.backwards += self.oracle.images(leaf)
        strict = self.relaxation is not None and not self.relaxation.given_up  # less relaxed, it may have one
        return gradient_or_zero(of.sum(), leaf, retain=retain, strict=strict)

    def _query(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        self.forwards += self.oracle.images(x)
        logits = self.oracle.logits(x, draws)
        # Where it has no answer it has none either time: that is counted when it is scored.
        return torch.where(logits.isfinite().all(-1, keepdim=True), logits, 0)

    def random_signs(self) -> Tensor:
        """Fair random signs like ``x``, each batch from its own generator."""
        drawn = [torch.randint(0, 2, self.x.shape[1:], generator=g) for g in self.generators]
        return (2 * torch.stack(drawn) - 1).to(self.x)

    def per_unit(self, values: Tensor) -> Tensor:
        """Sums [G, K, ...] over what is answered as one: each input, or the batch where answers depend on it.

        Returns [units].
        """
        per_input = values.flatten(2).sum(2) if values.ndim > 2 else values
        return (per_input.sum(1) if self.batch_dependent else per_input.flatten()).cpu().double()


def runner_up(logits: Tensor, y: Tensor) -> Tensor:
    """The most likely class other than ``y``: logits [..., classes], y [...] -> [...]."""
    return logits.detach().scatter(-1, y.unsqueeze(-1), -torch.inf).argmax(-1)


def gap(logits: Tensor, y: Tensor, other: Tensor) -> Tensor:
    """The logit of class ``other`` less that of ``y``: an attack raises it. Linear in the logits."""
    return (logits.gather(-1, other.unsqueeze(-1)) - logits.gather(-1, y.unsqueeze(-1))).squeeze(-1)


STEPS = 4
STEP = 0.5  # of eps: four steps reach every corner of the ball from anywhere in it


@dataclass(frozen=True)
class Walk:
    """PGD on the margin under one fixed draw, from a random start.

    Attributes:
        draws: the draw of each batch.
        points: STEPS + 1 iterates [G, K, C, H, W].
        logits: their answers [G, K, classes].
        others: the runner-up class at each, int64 [G, K].
        gradients: of the summed margins at each but the last.
        cross_entropy: gradients of the summed cross-entropy at the same iterates.
    """

    draws: Sequence[Any]
    points: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]
    others: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    cross_entropy: tuple[Tensor, ...]


def walk(scene: Scene) -> Walk:
    """Walks; costs STEPS + 1 forwards and 2 STEPS backwards of the scene."""
    ball = scene.budget.around(scene.x)
    draws = scene.draws(0)
    points, answers, others, gradients, entropies = [ball.uniform(scene.generators)], [], [], [], []
    for _ in range(STEPS):
        leaf, logits = scene.differentiable(points[-1], draws)
        other = runner_up(logits, scene.y)
        entropy = functional.cross_entropy(logits.flatten(0, 1), scene.y.flatten(), reduction="sum")
        entropies.append(scene.gradient(entropy, leaf, retain=True))
        gradients.append(scene.gradient(gap(logits, scene.y, other), leaf))
        answers.append(logits.detach())
        others.append(other)
        usable = torch.nan_to_num(gradients[-1])
        points.append(ball.step_(points[-1].clone(), usable, STEP * scene.budget.eps))
    answers.append(scene.answers(points[-1], draws))
    others.append(runner_up(answers[-1], scene.y))
    return Walk(draws, tuple(points), tuple(answers), tuple(others), tuple(gradients), tuple(entropies))
