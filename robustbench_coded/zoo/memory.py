"""Defences with a memory: of what they were asked, of how often, of what they averaged.

``answer-memory`` keeps every input and its answer, and gives a near-duplicate the stored one: a caller who
asks for the clean input first never sees a perturbed one answered, though its slope is the model's.
``memory-reset`` is the same and forgets when it is told to; of ``memory-false-reset`` being told changes
nothing. ``alternating`` answers by two models in turn. Truth: that of a defence asked for the first time, as
an attacker who knows it asks the deployed one: the fragile linear model's, or, of ``alternating``, that of
two models that one step fools together.

``running-mean`` centres scores on a mean that it keeps: half of what it had (0 after ``reset``), half of the
batch's own. Truth after a reset: ``refit``'s, where the centre moves half as far.
"""

import torch
from torch import Tensor

from robustbench_coded.defences.protocol import Deterministic
from robustbench_coded.zoo import coupled, linear
from robustbench_coded.zoo.known import Known, everywhere, exactly


class AnswerMemory(Deterministic):
    """Gives an input within ``radius`` (l-infinity) of one asked before the answer that it had then."""

    def __init__(self, name: str, model: linear.LinearModel, radius: float):
        self.name = name
        self.model = model
        self.radius = radius
        self.forget()

    def forget(self) -> None:
        self.asked = torch.empty(0, 0)
        self.answered = torch.empty(0, 2)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        fresh = self.model(x)
        flat = x.detach().flatten(1).cpu()
        if not len(self.asked):
            known = torch.zeros(len(x), dtype=torch.bool)
            answers = fresh.detach().cpu()
        else:
            distance, nearest = torch.cdist(flat, self.asked, p=torch.inf).min(1)
            known, answers = distance <= self.radius, self.answered[nearest]
        new = ~known
        self.asked = torch.cat([self.asked.view(-1, flat.shape[1]), flat[new]])
        self.answered = torch.cat([self.answered, fresh.detach().cpu()[new]])
        stored = linear.with_slope_of(answers.to(x), fresh)
        return torch.where(known.unsqueeze(-1).to(x.device), stored, fresh)


class MemoryWithReset(AnswerMemory):
    """The same, and forgets everything when it is told to."""

    def reset(self) -> None:
        self.forget()


class MemoryWithFalseReset(AnswerMemory):
    """The same, and forgets nothing when it is told to."""

    def reset(self) -> None:
        return None


class Alternating(Deterministic):
    """Answers by the members in turn, one for each call."""

    name = "alternating"

    def __init__(self, members: list[linear.LinearModel]):
        self.members = members
        self.calls = 0

    def logits(self, x: Tensor, draw: None) -> Tensor:
        self.calls += 1
        return self.members[self.calls % len(self.members)](x)


class RunningMean(linear.InBatches):
    """Centres scores on a running mean over the batches since the last reset."""

    name = "running-mean"

    def __init__(self, model: linear.LinearModel):
        self.model = model
        self.reset()

    def reset(self) -> None:
        self.centre = torch.zeros(())

    def logits(self, x: Tensor, draw: None) -> Tensor:
        score = self.model.score(x)
        centre = 0.5 * self.centre.to(x) + 0.5 * score.mean()
        self.centre = centre.detach()
        return linear.two_logits(self.model.gain * (score - centre))


def known_alternating(n: int = 640, eps: float = 0.1) -> Known:
    """Two members that share a fragile part: the step against it fools both."""
    shared, apart = linear.pattern(19), linear.pattern(44)
    x, y = linear.planted_margins(linear.spread(0.25 * eps, 0.6 * eps, n), shared, flat_along=[apart])
    members = [linear.along(shared + sign * 3 * apart) for sign in (1, -1)]
    against = (x - (2 * y - 1).view(-1, 1, 1, 1) * eps * shared).clamp(0, 1)
    left = exactly(max((linear.margins(member, against, y) > 0).double().mean().item() for member in members))
    return Known(Alternating(members), x, y, 128, exactly(1.0), everywhere(left))


def known_running_mean(n: int = 640, eps: float = 0.05, k: int = 128) -> Known:
    """Margins of 2.2 to 3 eps for four inputs in five, of 0.1 to 0.4 eps for the others: 80%."""
    model = linear.along(linear.pattern(38))
    few = torch.arange(n) % 5 == 0
    distances = torch.where(
        few, linear.spread(0.1 * eps, 0.4 * eps, n), linear.spread(2.2 * eps, 3.0 * eps, n)
    )
    x, y = linear.planted_margins(distances, linear.pattern(38))
    truth = coupled.truths(model, x, y, eps, k, share=0.5)
    return Known(RunningMean(model), x, y, k, truth["clean"], lambda threat: truth[threat.split("/")[0]])


def known_remembering(name: str, kind: type[AnswerMemory], n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.fragile(56, n, eps)
    return linear.like_the_model(kind(name, model, 1.01 * eps), model, x, y, eps)
