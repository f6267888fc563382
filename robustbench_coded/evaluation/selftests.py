"""Self-tests of gradients: do they exist along an attack's path (indicator 1 of arXiv 2106.09947), do they
lead uphill, and do derivatives belong to the answers?

Finite differences are central, of the margin, in float32 on the very object that is attacked: a copy in
float64 would be another object. The draw is held fixed. Two directions: uphill, and random signs, which also
see the slope of inputs that the gradient leaves out.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from attacks import oracle, perturbation_budget
from attacks.estimators import finite_slopes
from attacks.gradients import gradient_or_zero, raise_machine_fault
from attacks.relaxation import Relaxation
from robustbench_coded.schema.words import RELAXED_SELF_TEST

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


WALK_STEPS = 4
WALK_STEP = 0.5  # of eps: four steps reach every corner of the ball from anywhere in it


@dataclass(frozen=True)
class Walk:
    """PGD on the margin under one fixed draw, from a random start.

    Attributes:
        draws: the draw of each batch.
        points: WALK_STEPS + 1 iterates [G, K, C, H, W].
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
    """Walks; costs WALK_STEPS + 1 forwards and 2 WALK_STEPS backwards of the scene."""
    ball = scene.budget.around(scene.x)
    draws = scene.draws(0)
    points, answers, others, gradients, entropies = [ball.uniform(scene.generators)], [], [], [], []
    for _ in range(WALK_STEPS):
        leaf, logits = scene.differentiable(points[-1], draws)
        other = runner_up(logits, scene.y)
        entropy = functional.cross_entropy(logits.flatten(0, 1), scene.y.flatten(), reduction="sum")
        entropies.append(scene.gradient(entropy, leaf, retain=True))
        gradients.append(scene.gradient(gap(logits, scene.y, other), leaf))
        answers.append(logits.detach())
        others.append(other)
        usable = finite_slopes(gradients[-1])
        points.append(ball.step_(points[-1].clone(), usable, WALK_STEP * scene.budget.eps))
    answers.append(scene.answers(points[-1], draws))
    others.append(runner_up(answers[-1], scene.y))
    return Walk(draws, tuple(points), tuple(answers), tuple(others), tuple(gradients), tuple(entropies))


EXIST = "gradients along the path"
WITHOUT = 0.1  # share of inputs without a usable gradient above which an attack with gradients says little


def gradients_exist(scene: Scene, path: Walk) -> SelfTest:
    """Fails where the margin's gradient is zero, NaN or infinite at more than WITHOUT of inputs and iterates.

    The cross-entropy's may vanish because logits are large; then the same holds, for most attacks raise it.
    """
    zero = max(_share(path.gradients, _zero), _share(path.cross_entropy, _zero))
    broken = max(_share(path.gradients, _broken), _share(path.cross_entropy, _broken))
    finding = (
        f"Along a short attack the gradient is zero at {zero:.1%} of the inputs and NaN or infinite at "
        f"{broken:.1%}."
    )
    return judged(EXIST, zero + broken <= WITHOUT, finding, zero_share=zero, not_finite_share=broken)


def _share(gradients: tuple[Tensor, ...], what: object) -> float:
    return sum(what(g).cpu().double().mean().item() for g in gradients) / len(gradients)  # type: ignore[operator]


def _zero(gradient: Tensor) -> Tensor:
    return (gradient == 0).flatten(2).all(2)


def _broken(gradient: Tensor) -> Tensor:
    return (~gradient.isfinite()).flatten(2).any(2)


RISING = "steps uphill"
LEAST_RISE = 0.1  # share of the rise promised by the gradient that must come true
CLEAR = 4.0  # standard errors by which a step uphill must beat a random one where less comes true


def rising_loss(scene: Scene, path: Walk) -> SelfTest:
    """Compares what the gradient promises of the walk's first step with what it brings, summed over inputs.

    Where eps is large against the bends of an honest network little of the promise comes true; then the step
    must at least bring clearly more than a random one of the same size.
    """
    start, moved = path.points[0], path.points[1] - path.points[0]
    before = gap(path.logits[0], scene.y, path.others[0])
    rise = torch.nan_to_num(gap(path.logits[1], scene.y, path.others[0]) - before).flatten().cpu().double()
    promised = float(torch.nan_to_num(path.gradients[0] * moved).sum())
    if promised <= 0:
        return not_applicable(RISING, "The gradients promise nothing.", promised=promised)
    share = float(rise.sum()) / promised
    ball = scene.budget.around(scene.x)
    beside = ball.project_(start + scene.random_signs() * moved.abs())
    chance = gap(scene.answers(beside, path.draws), scene.y, path.others[0]) - before
    more = rise - torch.nan_to_num(chance).flatten().cpu().double()
    error = float(more.std()) / len(more) ** 0.5 if len(more) > 1 else 0.0
    clear = float(more.mean()) / error if error > 0 else 0.0
    finding = (
        f"The first step of a short attack raises the margin by {share:.0%} of what its gradient promises, "
        f"{clear:.1f} standard errors more than a random step."
    )
    passed = share >= LEAST_RISE or (clear >= CLEAR and float(rise.mean()) > 0)
    return judged(RISING, passed, finding, kept=share, clear=clear, rise=float(rise.mean()))


DIFFERENCES = "finite differences"
SMALL, STEP = 1 / 64, 1 / 4  # of eps: where a network is nearly linear; and a step of an attack
ROUNDING = 2e-6  # of the largest logit: what float32 leaves uncertain in one answer
MEASURABLE = 10.0  # times the rounding that a difference must be to count
MISMATCH = 0.5  # relative disagreement of one difference that counts as a mismatch
TOLERATED, TOLERATED_STEP = 0.15, 0.25  # shares of mismatches at the two scales
SMOOTH = 0.75  # share of such differences among the mismatches, from which on answers count as smooth
FEW = 16  # units: with fewer, each is measured in up to four random directions
STRAIGHT = 0.25  # how far twice the difference may be from that over twice the distance, relatively


def finite_differences(scene: Scene, path: Walk) -> SelfTest:
    """Fails where analytic and measured differences disagree over SMALL times eps.

    Honest steps in the answers, such as rounding with the gradient of the identity, disagree there, too. They
    are told by measured differences that do not grow with the distance; then it is the differences over STEP
    times eps that count, the size of the moves that attacks make. Answers that are smooth have a slope of
    their own, which the gradient then is not.
    """
    points = (path.points[1], path.points[-1])
    slopes = [_Slope(scene, point, path.draws) for point in points]
    small = _compared(slopes, SMALL)
    if not small.usable.any():
        return not_applicable(DIFFERENCES, "The answers are too flat for differences to be measured.")
    figures = {"mismatch": small.share}
    passed, scale, share = figures["mismatch"] <= TOLERATED, SMALL, figures["mismatch"]
    if not passed:
        figures["smooth"] = smooth = _smooth(slopes, small)
        if smooth < SMOOTH:
            scale = STEP
            figures["mismatch_step"] = share = _compared(slopes, STEP).share
            passed = share <= TOLERATED_STEP
    finding = (
        f"Gradients and finite differences over eps/{1 / scale:g} disagree in {share:.1%} of "
        f"{int(small.usable.sum())} comparisons along a short attack."
    )
    return judged(DIFFERENCES, passed, finding, **figures)


class _Slope:
    """The margin's analytic slope at one point, and two directions to measure it in."""

    def __init__(self, scene: Scene, point: Tensor, draws: Sequence[Any]):
        self.scene, self.draws = scene, draws
        # Far enough inside the box that both ends of small differences are images.
        inset = 2 * SMALL * scene.budget.eps
        self.point = point.clamp(min(inset, 0.5), max(1 - inset, 0.5))
        leaf, logits = scene.differentiable(self.point, draws)
        self.other = runner_up(logits, scene.y)
        self.gradient = scene.gradient(gap(logits, scene.y, self.other), leaf)
        units = scene.x.shape[0] * (1 if scene.batch_dependent else scene.x.shape[1])
        chance = [scene.random_signs() for _ in range(max(1, min(4, FEW // units)))]
        self.directions = (torch.nan_to_num(self.gradient).sign(), *chance)
        self.floor = MEASURABLE * ROUNDING * float(logits.detach().abs().max()) * scene.x.shape[1] ** 0.5

    def measured(self, direction: Tensor, h: float) -> Tensor:
        """Half the central difference over ``h`` to either side, [units]."""
        ends = (
            gap(self.scene.answers(self.point + side * h * direction, self.draws), self.scene.y, self.other)
            for side in (1.0, -1.0)
        )
        above, below = ends
        return self.scene.per_unit((above - below) / 2)


class _Compared(NamedTuple):
    """All iterates, directions and units at one scale, bool [comparisons] each."""

    mismatch: Tensor
    usable: Tensor  # whether the difference exceeds rounding errors

    @property
    def share(self) -> float:
        """The share of mismatches among usable differences."""
        return float((self.mismatch & self.usable).sum()) / max(1, int(self.usable.sum()))


def _compared(slopes: Sequence[_Slope], scale: float) -> _Compared:
    mismatch, usable = [], []
    for slope in slopes:
        h = scale * slope.scene.budget.eps
        for direction in slope.directions:
            numeric = slope.measured(direction, h)
            moves = slope.gradient * direction * h
            analytic = slope.scene.per_unit(moves)
            # In a random direction slopes may cancel: a difference is compared with what they are worth.
            worth = slope.scene.per_unit(moves.square()).sqrt()
            larger = torch.maximum(numeric.abs(), torch.maximum(analytic.abs(), worth))
            # NaN compares false with everything; it must count as a mismatch.
            mismatch.append(~((numeric - analytic).abs() <= MISMATCH * larger))
            usable.append(~(larger < slope.floor))
    return _Compared(torch.cat(mismatch), torch.cat(usable))


def _smooth(slopes: Sequence[_Slope], small: _Compared) -> float:
    """Share of the mismatches whose measured differences grow in proportion to the distance."""
    straight = []
    for slope in slopes:
        h = SMALL * slope.scene.budget.eps
        for direction in slope.directions:
            once, twice = slope.measured(direction, h), slope.measured(direction, 2 * h)
            moving = torch.minimum(once.abs(), twice.abs()) > slope.floor
            straight.append(moving & ((twice - 2 * once).abs() <= STRAIGHT * twice.abs()))
    mismatches = small.mismatch & small.usable
    return float((torch.cat(straight) & mismatches).sum()) / max(1, int(mismatches.sum()))


_TESTS = (
    gradients_exist,
    finite_differences,
    rising_loss,
)


def run_all(scene: Scene) -> tuple[SelfTest, ...]:
    """The self-tests in a fixed order; what the defence raises makes a test fail, never the caller."""
    tests = tried("attack", "A short attack on it fails", lambda: _all(scene))
    if any(test.outcome == "failed" and test.name != "attack" for test in tests):
        tests += tried(RELAXED_SELF_TEST, "The defence fails when it is asked", lambda: (_relaxed(scene),))
    return tests


def tried(name: str, failing: str, test: Callable[[], tuple[SelfTest, ...]]) -> tuple[SelfTest, ...]:
    """Results; where the defence raises an exception, a failed self-test of this name, which says so.

    Args:
        failing: how its finding begins.
    """
    try:
        return test()
    except Exception as error:  # a user defence can fail in any way
        raise_machine_fault(error)
        message = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return (judged(name, False, f"{failing}: {message}."),)


def _all(scene: Scene) -> tuple[SelfTest, ...]:
    path = walk(scene)
    return tuple(test(scene, path) for test in _TESTS)


def _relaxed(scene: Scene) -> SelfTest:
    """Passes where each of the tests does, or says nothing of this defence.

    They have a walk of their own. Figures are those of these tests.
    """
    relaxation = Relaxation()
    relaxed = replace(scene, relaxation=relaxation)
    try:
        tests = relaxation.attempt(lambda: _all(relaxed))
    finally:
        scene.forwards += relaxed.forwards
        scene.backwards += relaxed.backwards
    failed = [test for test in tests if test.outcome == "failed" and _counts(test)]
    finding = " ".join(f"With smooth operators: {test.finding}" for test in failed or tests[2:3])
    figures = {name: value for test in tests for name, value in test.figures.items()}
    return judged(RELAXED_SELF_TEST, not failed, finding, **figures)


def _counts(test: SelfTest) -> bool:
    """Differences say nothing where answers jump."""
    return test.name != DIFFERENCES or test.figures.get("smooth", 0.0) >= SMOOTH
