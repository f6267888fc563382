"""Answers that depend on earlier questions, or on training mode, are found and named."""

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded.defences.inferences import GaussianNoise, Standard
from robustbench_coded.defences.memory import CALLS, Sentinel, memory_of
from robustbench_coded.defences.per_batch import per_batch
from robustbench_coded.defences.rci import RCI, Coded
from robustbench_coded.defences.sampling import SamplingModule

K = 16


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()


@pytest.fixture
def x():
    return torch.rand(K, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def found(defence, x):
    return memory_of(defence, x, torch.Generator().manual_seed(2))


class Remembering(Standard):
    """Counts its calls and keeps what it was asked; subclasses use it."""

    def __init__(self, model):
        super().__init__(model)
        self.name = "remembering"
        self.calls, self.asked = 0, torch.empty(0, 36)
        self.logits_grouped = None

    def logits(self, x, draw):
        self.calls += 1
        answers = self.answer(x)
        self.asked = torch.cat([self.asked, x.detach().flatten(1)])
        return answers


class LaterCalls(Remembering):
    def answer(self, x):
        return self.model(x) * (1 if self.calls < CALLS else 1.01)


class NearDuplicates(Remembering):
    def answer(self, x):
        if not len(self.asked):
            return self.model(x)
        near = torch.cdist(x.detach().flatten(1), self.asked, p=torch.inf).min(1).values
        suspicious = (near > 0) & (near < 0.1)
        return torch.where(suspicious[:, None], torch.zeros(5), self.model(x))


class LaterGradients(Remembering):
    """Answers as ever; after some questions with gradients the slope is another one."""

    recorded = 0

    def answer(self, x):
        self.recorded += torch.is_grad_enabled()
        logits = self.model(x)
        return logits if self.recorded < 10 else logits.detach() - (logits - logits.detach())


class AdaptingMean(Remembering):
    centre = 0.0

    def answer(self, x):
        self.centre = 0.9 * self.centre + 0.1 * float(x.detach().mean())
        return self.model(x - self.centre)


class Unseeded(Remembering):
    """No memory, but nothing that a draw sets decides its answers."""

    def answer(self, x):
        return self.model(x) + torch.from_numpy(np.random.default_rng().random(5)).float()


class Forgetful(AdaptingMean):
    def reset(self):
        self.centre = 0.0


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (LaterCalls, f"after {CALLS} other questions its answer to one batch under one draw has changed by"),
        (NearDuplicates, "its answer to an input after it was asked about one that is nearly the same"),
        (LaterGradients, f"after {CALLS} other questions its gradient to one batch under one draw"),
        (AdaptingMean, "asked again at once, its answer to one batch under one draw has changed by"),
        (Unseeded, "let sample(generator, k) return a seed"),
    ],
)
def test_each_kind_of_memory_is_named(model, x, kind, message):
    (clause,) = found(kind(model), x)
    assert clause.startswith("has a memory: ")
    assert message in clause


def test_a_memory_that_is_reset_before_every_batch_is_none(model, x):
    assert found(per_batch(Forgetful(model)), x) == []


@pytest.mark.parametrize(
    "build",
    [
        Standard,
        lambda m: Coded(m, K, 24),
        lambda m: RCI(m, K, 24),
        lambda m: GaussianNoise(m, 0.1),
        lambda m: SamplingModule(nn.Sequential(nn.Dropout(0.5).train(), m), name="dropout"),
    ],
)
def test_defences_without_one_have_none(model, x, build):
    assert found(build(model), x) == []


def test_parts_in_training_mode_are_named_where_they_change_answers(model, x):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model

        def forward(self, x):
            return self.network(x) * (2 if self.training else 1)

    class Plain(nn.Module):
        randomised = batch_dependent = False

        def __init__(self, part):
            super().__init__()
            self.part = part

        def forward(self, x):
            return self.part(x)

    held = Plain(None).eval()
    held.part = {"nets": (Gated(),)}
    held.forward = lambda x: held.part["nets"][0](x)
    (clause,) = found(SamplingModule(held, name="in a dictionary"), x)
    assert clause.startswith("answers otherwise once its parts are in evaluation mode, changed by 50.0%")
    defence = SamplingModule(Plain(Gated()), name="gated")
    (clause,) = found(defence, x)
    assert clause.startswith("answers otherwise once its parts are in evaluation mode, changed by 50.0%")
    assert "part" in clause and clause.endswith("call eval() where it is built")
    assert defence.module.training and defence.module.part.training
    assert found(SamplingModule(Plain(model), name="harmless"), x) == []
    assert found(SamplingModule(Plain(Gated()).eval(), name="eval"), x) == []


def test_a_defence_that_fails_at_some_inputs_has_no_memory_for_that(model, x):
    class Raising(Standard):
        def logits(self, x, draw):
            if bool((x.flatten(1).mean(1) > 0.6).any()):
                raise ValueError("too bright")
            return self.model(x)

    assert found(Raising(model), x) == []


def test_a_sentinel_says_what_changed(model, x):
    defence = Standard(model)
    sentinel = Sentinel.ask(defence, x, None)
    assert sentinel.change() is None
    with torch.no_grad():
        model[-1].bias += 1
    assert sentinel.change().startswith("its answer to one batch under one draw has changed by")


class FailsLater(Remembering):
    """Raises an exception at every question after the first hundred."""

    def answer(self, x):
        if self.calls > 100:
            raise RuntimeError("worn out")
        return self.model(x)


class FailsAtFirst(Remembering):
    def answer(self, x):
        if self.calls < 3:
            raise RuntimeError("warming up")
        return self.model(x)


class CopiesFail(Standard):
    """Works, but a copy of it does not: nothing to compare with, and no memory."""

    def __deepcopy__(self, memo):
        copied = Standard(self.model)
        copied.logits = None
        return copied


def test_exceptions_are_named_and_not_measured_in_percent(model, x):
    (worn,) = found(FailsLater(model), x)
    assert worn.endswith("or can't be had")
    (warm,) = found(FailsAtFirst(model), x)
    assert "or can't be had" in warm
    assert found(CopiesFail(model), x) == []


@pytest.mark.parametrize(
    "answer", [lambda z: torch.where(z < z.amax(1, keepdim=True), -torch.inf, z), lambda z: z > 0]
)
def test_infinite_logits_and_truth_values_are_no_memory(model, x, answer):
    defence = Remembering(model)
    defence.answer = lambda x: answer(model(x))
    assert found(defence, x) == []
