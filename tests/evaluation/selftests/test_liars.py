"""Each way of hiding a gradient fails the self-test that is made for it; honest defences fail none."""

import pytest
import torch
from torch.nn import functional

from robustbench_coded.defences.inferences import GaussianNoise, ResizePad
from robustbench_coded.defences.rci import RCI, Coded
from robustbench_coded.evaluation.selftests import run_all


def failed(scene):
    return {test.name: test.finding for test in run_all(scene) if test.outcome == "failed"}


def rounding(levels):
    def straight_through(x):
        return x + ((x * levels).round() / levels - x).detach()

    return straight_through


def median_of_three(x):
    padded = functional.pad(x, (1, 1, 0, 0), mode="reflect")
    return padded.unfold(3, 3, 1).median(-1).values


HONEST = {
    "standard": lambda model: model,
    "rci": lambda model: RCI(model, 32, 48),
    "rci without redundancy": lambda model: RCI(model, 32, 32),
    "rci on small batches": lambda model: RCI(model, 8, 12),
    "coded": lambda model: Coded(model, 32, 48),
    "noise": lambda model: GaussianNoise(model, 0.25),
    "resize-pad": lambda model: ResizePad(model, 0.7),
    "8 bits": lambda model: lambda x: model(rounding(255)(x)),
    "4 bits": lambda model: lambda x: model(rounding(16)(x)),
    "clipped": lambda model: lambda x: model(x.clamp(0.02, 0.98)),
    "median": lambda model: lambda x: model(median_of_three(x)),
    "bounded logits": lambda model: lambda x: 5 * torch.tanh(model(x) / 5),
    "log-probabilities": lambda model: lambda x: model(x).log_softmax(-1),
    "small logits": lambda model: lambda x: 0.01 * model(x),
}


@pytest.mark.parametrize("network", ["model", "other"])
@pytest.mark.parametrize("name", HONEST)
def test_honest_defences_fail_nothing(world, name, network):
    defence = HONEST[name](getattr(world, network))
    scene = world.scene(defence, 8 if name == "rci on small batches" else 32)
    assert failed(scene) == {}


def one_hot(model):
    return lambda x: functional.one_hot(model(x).argmax(-1), 10).float()


def pinned(model):
    """The runner-up's logit 0.1 below the top, whatever the network says."""

    def answer(x):
        values, order = model(x).sort(-1, descending=True)
        values = torch.cat([values[:, 1:2] + 0.1, values[:, 1:]], 1)
        return torch.zeros_like(values).scatter(-1, order, values)

    return answer


class NanBackwards(torch.autograd.Function):
    """NaN for the gradient wherever pixels are no sixteenths, as those of clean digits are."""

    @staticmethod
    def forward(ctx, x):
        ctx.perturbed = ((16 * x - (16 * x).round()).abs().flatten(1).amax(1) > 1e-4)[:, None, None, None]
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.where(ctx.perturbed, torch.nan, grad)


def rippled(model):
    waves = torch.arange(1.0, 11.0)
    return lambda x: model(x) + 0.05 * torch.sin(3e3 * x.flatten(1).sum(1, keepdim=True) * waves)


LIARS = {
    "one-hot, slope of a linear model": (
        lambda w, d: w.with_slope_of(one_hot(w.model), d),
        {"finite differences", "steps uphill"},
    ),
    "one-hot, slope of another network": (
        lambda w, d: w.with_slope_of(one_hot(w.model), w.other),
        {"finite differences"},
    ),
    "one-hot, its own slope": (
        lambda w, d: w.with_slope_of(one_hot(w.model), w.model),
        {"finite differences"},
    ),
    "pinned runner-up, decoy's slope": (
        lambda w, d: w.with_slope_of(pinned(w.model), d),
        {"finite differences"},
    ),
    "right logits, linear slope": (
        lambda w, d: w.with_slope_of(w.model, d),
        {"finite differences"},
    ),
    "right logits, another network's slope": (
        lambda w, d: w.with_slope_of(w.model, w.other),
        {"finite differences"},
    ),
    "wrong backward": (
        lambda w, d: lambda x: 2 * w.model(x).detach() - w.model(x),
        {"finite differences", "steps uphill"},
    ),
    "slope of one row of pixels": (
        lambda w, d: lambda x: w.model(torch.cat([x[:, :, :1], x[:, :, 1:].detach()], 2)),
        {"finite differences"},
    ),
    "rounding": (
        lambda w, d: lambda x: w.model((16 * x).round() / 16),
        {"gradients along the path", "finite differences"},
    ),
    "no slope": (
        lambda w, d: lambda x: w.model(x.detach()) + 0 * x.sum(),
        {"gradients along the path", "finite differences"},
    ),
    "NaN where perturbed": (
        lambda w, d: lambda x: w.model(NanBackwards.apply(x)),
        {"gradients along the path", "finite differences"},
    ),
    "huge logits": (lambda w, d: lambda x: 1e5 * w.model(x), {"gradients along the path"}),
    "ripples": (
        lambda w, d: rippled(w.model),
        {"finite differences", "steps uphill"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIARS)
def test_liars_fail_the_tests_made_for_them(world, linear, name):
    build, expected = LIARS[name]
    assert expected <= failed(world.scene(build(world, linear))).keys()


def test_a_defence_that_raises_fails_and_does_not_stop_the_others(world):
    def off_grid(x):
        if bool(((16 * x) != (16 * x).round()).any()):
            raise ValueError("not an image of the set")
        return world.model(x)

    (only,) = run_all(world.scene(off_grid))
    assert only.outcome == "failed"
    assert only.finding == "A short attack on it fails: ValueError: not an image of the set."


def test_what_it_cost_is_counted_and_bounded(world):
    """At most what five steps of PGD on two batches of 128 cost, a backward counted as two forwards."""
    scene = world.scene(RCI(world.model, 32, 48))
    run_all(scene)
    images_per_input = 48 / 32
    assert 0 < scene.forwards + 2 * scene.backwards <= 5 * 3 * 2 * 128 * images_per_input


def levels(x):
    return torch.where(x > 2 / 3, 1.0, torch.where(x > 1 / 3, 0.5, 0.0))


class OtherBackward(torch.autograd.Function):
    """Right forward, in numpy, which nobody differentiates; backward as if nothing had happened."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy()[..., ::-1].copy())

    @staticmethod
    def backward(ctx, grad):
        return grad


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda w: w.model, None),  # nothing failed, and nothing is asked again
        (lambda w: lambda x: w.model(levels(x)), "passed"),
        (lambda w: lambda x: w.model(x.detach()) + 0 * x.sum(), "passed"),
        # A smooth answer whose slope is known to nobody.
        (lambda w: lambda x: w.model(OtherBackward.apply(x)), "failed"),
    ],
    ids=["honest", "levels", "detached", "mirrored"],
)
def test_gradients_that_fail_are_tested_again_with_smooth_operators(world, build, expected):
    scene = world.scene(build(world))
    found = {test.name: test.outcome for test in run_all(scene)}
    assert found.get("relaxed gradients") == expected
    assert scene.backwards > (0 if expected is None else 32 * 10)
