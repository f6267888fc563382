"""Defences that answer by more than the input: by the batch (coded inference, answers by the neighbour, half
a batch that stands, test-time adaptation), or with a memory of what they were asked, of how often, of what
they averaged.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.coding.codec import Codec
from robustbench_coded.defences.protocol import Deterministic
from robustbench_coded.defences.rci import RCI
from zoo import linear
from zoo.known import Known, Truth, everywhere, exactly

# A linear model under randomised coded inference, under each threat model.
#
# Truth: on scores t [K] the defence is a matrix, M = P^T D E P with the permutation P (arXiv 2510.00253,
# section 3), and every answer a row of it: sum_j M_ij t_j. An l-infinity perturbation of eps moves each t_j
# by at most eps and, away from the box, anywhere in between (``linear.along`` has ||w||_1 = 1). Let a be the
# least and r the largest, over the slots, of M_ss and of sum_{j != s} |M_sj|, and T the largest |t|. With
# margins m:
#
# - an input is right in every slot, in every batch, whatever is known of P, when a (m - eps) > r (T + eps);
#   where the others are clean (``victim``), when a (m - eps) > r T;
# - it is wrong in every slot when each input is moved by eps against its own margin, as transfer from the
#   linear model does, and -a (m - eps) > r max|m - eps|; where the others are clean, when -a (m - eps) > r T.
#
# The margins are chosen so that each input is one or the other: then the truth is exact, for every threat
# model. (M_ss varies over the slots; inputs use the bound that is worse for the claim.)


NARROW = 0.3  # share of inputs that a perturbation of eps takes across the boundary


def known_rci_linear(n: int = 640, eps: float = 0.1, k: int = 128, n_coded: int | str = "1.5K") -> Known:
    """Nothing is gained over the linear model: 70% of inputs stand under both, 30% fall under both."""
    narrow = torch.arange(n) % 10 < round(10 * NARROW)
    return _known_rci(torch.where(narrow, 0.3 * eps, 2 * eps), eps, k, n_coded, "rci-linear")


def known_rci_linear_wide(n: int = 640, eps: float = 0.1, k: int = 128, n_coded: int | str = "1.5K") -> Known:
    """All inputs stand; the defence keeps to itself what it is made of."""
    known_rci_linear = _known_rci(torch.full((n,), 2 * eps), eps, k, n_coded, "rci-linear-wide")
    known_rci_linear.defence.base = None
    return known_rci_linear


def _known_rci(distances: Tensor, eps: float, k: int, n_coded: int | str, name: str) -> Known:
    model = linear.along(linear.pattern(45))
    x, y = linear.planted_margins(distances, linear.pattern(45))
    defence = RCI(model, k, n_coded)
    defence.name = name
    codec = defence.codec_for(k)
    clean = bounds(codec, model, x, y, 0.0, co_batched_eps=0.0)
    by_inputs = {
        "batch": bounds(codec, model, x, y, eps, co_batched_eps=eps),
        "victim": bounds(codec, model, x, y, eps, co_batched_eps=0.0),
    }
    return Known(defence, x, y, clean, lambda threat: by_inputs[threat.split("/")[0]], k)


def bounds(
    codec: Codec, model: linear.LinearModel, x: Tensor, y: Tensor, eps: float, *, co_batched_eps: float
) -> Truth:
    """Robust accuracy of the linear model under RCI, whether or not the permutation is known.

    Args:
        x, y: examples; any of them may share a batch.
        eps: l-infinity radius of an input.
        co_batched_eps: radius of its co-batched inputs: 0, or ``eps``.
    """
    matrix = codec.decoder(dtype=torch.float64) @ codec.encoder(dtype=torch.float64)
    own = matrix.diagonal()
    others = matrix.abs().sum(1) - own.abs()
    clean, worst = linear.margins(model, x, y), linear.worst_margins(model, x, y, eps)
    beside = linear.worst_margins(model, x, y, co_batched_eps)
    # Co-batched inputs at their strongest, wherever pushed, and as an attack leaves them that pushes each one
    # its own way.
    anywhere, attacked = clean.abs().max() + co_batched_eps, beside.abs().max()
    right = (worst > 0) & ((own * worst[:, None] - others * anywhere) > 0).all(1)
    wrong = ((own * worst[:, None] + others * attacked) < 0).all(1)
    return Truth(right.double().mean().item(), 1 - wrong.double().mean().item())


# A defence that answers each input by its neighbour: the label leaks through the co-batched inputs.
#
# Slots 2j and 2j + 1 answer for one another, and the data come in such pairs of one label, as a careless test
# loader may serve them. An attack on one input alone achieves nothing; its gradient in its own pixels is
# zero.
#
# Truth: an input is right exactly when the linear model gives its neighbour the label of both. Under
# ``victim`` the neighbour is clean and, in a random batch, any other example: accuracy is the share of those
# with the same label, half, which is what a constant answer keeps. In the order given it is 100%. Under
# ``batch`` every neighbour is moved to its own worst point, and each perturbation is the best one at once:
# accuracy in the order given is the share of inputs whose neighbour's worst margin is positive, 0%. Nothing
# is random. Batches in the order given must hold whole pairs: runs of an even number of examples.


class LabelLeak(linear.InBatches):
    """Gives every input the answer of the other one of its pair; the last of an odd batch has its own."""

    name = "label-leak"

    def __init__(self, model: linear.LinearModel):
        self.model = model
        self.base = model

    def logits(self, x: Tensor, draw: None) -> Tensor:
        slots = torch.arange(len(x), device=x.device)
        neighbours = slots ^ 1
        return self.model(x)[torch.where(neighbours < len(x), neighbours, slots)]


def known_label_leak(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 0.2 to 0.8 eps."""
    model = linear.along(linear.pattern(54))
    x, y = linear.planted_margins(linear.spread(0.2 * eps, 0.8 * eps, n), linear.pattern(54))
    # Labels alternate 0 1 0 1; taken as 0 0 1 1, neighbours share one.
    order = torch.arange(n).view(-1, 4)[:, [0, 2, 1, 3]].flatten()
    x, y = x[order], y[order]
    standing = (linear.worst_margins(model, x, y, eps) > 0).double().mean().item()
    same_label = (y[:, None] == y).double().sum(1).sub(1).div(n - 1).mean().item()
    by_inputs = {"batch": exactly(standing), "victim": exactly(same_label)}
    return Known(LabelLeak(model), x, y, exactly(1.0), lambda threat: by_inputs[threat.split("/")[0]])


# Half of every batch stands by design, and which half it is the attacker decides, for the batch as a whole.
#
# Even and odd slots are answered by a robust and a fragile model: which by which depends on the sign of the
# batch's mean score along a pattern that neither model looks at.
#
# Truth: the robust model's margins exceed eps, the fragile one's are below it, so the inputs that the fragile
# model answers can all be fooled and the others cannot, whatever the sign is and whatever is known: exactly
# 50% of every batch of an even size. Two attacks that push the sign different ways break every example
# between them, but no attacker can play both: counting the better of the two for each example reads 0. The
# clean mean is 0 but for the rounding of pixels, so that any random start turns the sign. Under ``victim`` an
# input may turn it, too, or fail to: between 0 and the robust half.
#
# Both models tell a second bit of the label by a third pattern, at a margin of 2 eps, which cannot be turned.
# That makes four classes, of which a constant answer keeps 25%: the half that stands is more than that.


ROBUST, FRAGILE, SIGN, COARSE = 5, 40, 51, 30


class HalfBatch(linear.InBatches):
    """Even slots by ``robust``, odd ones by ``fragile`` where the batch's mean ``sign`` score is negative."""

    name = "half-batch"

    def __init__(self, robust: nn.Module, fragile: nn.Module, sign: linear.LinearModel):
        self.robust = robust
        self.fragile = fragile
        self.sign = sign

    def logits(self, x: Tensor, draw: None) -> Tensor:
        even = (torch.arange(len(x), device=x.device) % 2 == 0).unsqueeze(-1)
        guarded = even if self.sign.score(x).mean() < 0 else ~even
        return torch.where(guarded, self.robust(x), self.fragile(x))


def known_half_batch(n: int = 640, eps: float = 0.05, k: int = 128) -> Known:
    robust, fragile, sign, coarse = (
        linear.along(linear.pattern(row)) for row in (ROBUST, FRAGILE, SIGN, COARSE)
    )
    x, fine = linear.planted_margins(
        linear.spread(1.4 * eps, 2.2 * eps, n),
        linear.pattern(ROBUST),
        flat_along=[linear.pattern(row) for row in (FRAGILE, SIGN, COARSE)],
    )
    towards = (2 * fine - 1).view(-1, 1, 1, 1)
    x = x + towards * linear.spread(0.25 * eps, 0.6 * eps, n, seed=2).view(-1, 1, 1, 1) * linear.pattern(
        FRAGILE
    )
    x, y = linear.with_coarse_bit(linear.Planted(x, fine), linear.pattern(COARSE), 2 * eps)
    coarse_stands, robust_stands, fragile_stands = (
        linear.worst_margins(model, x, bit, eps) > 0
        for model, bit in ((coarse, y // 2), (robust, fine), (fragile, fine))
    )
    even = torch.arange(n) % 2 == 0
    half = min(
        (coarse_stands & torch.where(guarded, robust_stands, fragile_stands)).double().mean().item()
        for guarded in (even, ~even)
    )
    truth = {"batch": exactly(half), "victim": Truth(0.0, half)}
    return Known(
        HalfBatch(linear.TwoBits(coarse, robust), linear.TwoBits(coarse, fragile), sign),
        x,
        y,
        exactly(1.0),
        lambda threat: truth[threat.split("/")[0]],
        k,
    )


# Test-time adaptation: scores are centred on the batch, as batch normalisation in training mode does it.
#
# Before each batch, ``fit`` takes the mean c of the batch's scores, and inputs are answered by the sign of s
# - c. Balanced classes have c near 0, so that nothing changes but the coupling: an attacker who moves all
# inputs moves c, too, by up to eps.
#
# Truth under ``batch``: an input with margin m is right in every case where m - eps > |c| + eps, c the clean
# centre of its batch; and where every input is moved by eps against its own margin, it is wrong when eps - m
# > |c'|, c' the centre of the batch so moved. Under ``victim`` the input itself moves c by eps / K at most.
# The margins are chosen so that each input is one or the other, with |c| and |c'| taken as the largest of the
# batches in the order given: exact. ``fit`` is differentiable.


class Refit(linear.InBatches):
    """Answers by the sign of the score less its mean over the batch that ``fit`` has seen."""

    def __init__(self, name: str, model: linear.LinearModel):
        self.name = name
        self.model = model
        self.centre = torch.zeros(())

    def fit(self, x: Tensor) -> None:
        self.centre = self.model.score(x).mean()

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return linear.two_logits(self.model.gain * (self.model.score(x) - self.centre))


def known_refit_mean(n: int = 640, eps: float = 0.05) -> Known:
    """Margins of 3 to 3.4 eps for four inputs in five, of 0.1 to 0.3 eps for the others: 80%."""
    few = torch.arange(n) % 5 == 0
    distances = torch.where(
        few, linear.spread(0.1 * eps, 0.3 * eps, n), linear.spread(3.0 * eps, 3.4 * eps, n)
    )
    return _known_refit("refit-mean", distances, eps)


def known_refit_mean_narrow(n: int = 640, eps: float = 0.05) -> Known:
    return _known_refit("refit-mean-narrow", linear.spread(0.1 * eps, 0.4 * eps, n), eps)


def _known_refit(name: str, distances: Tensor, eps: float, k: int = 128) -> Known:
    model = linear.along(linear.pattern(37))
    x, y = linear.planted_margins(distances, linear.pattern(37))
    truth = truths(model, x, y, eps, k)
    return Known(Refit(name, model), x, y, truth["clean"], lambda threat: truth[threat.split("/")[0]], k)


def truths(
    model: linear.LinearModel, x: Tensor, y: Tensor, eps: float, k: int, share: float = 1.0
) -> dict[str, Truth]:
    """Accuracy clean, under ``batch`` and ``victim``; ``share`` of the batch's mean is taken off."""
    return {
        "clean": _bounds(model, x, y, 0.0, k, share, everyone=True),
        "batch": _bounds(model, x, y, eps, k, share, everyone=True),
        "victim": _bounds(model, x, y, eps, k, share, everyone=False),
    }


def _bounds(
    model: linear.LinearModel, x: Tensor, y: Tensor, eps: float, k: int, share: float, *, everyone: bool
) -> Truth:
    clean, worst = linear.margins(model, x, y), linear.worst_margins(model, x, y, eps)

    def centre(margin: Tensor) -> Tensor:
        batches = (margin * (2 * y - 1)).split(k)
        return share * torch.stack([batch.mean().abs() for batch in batches]).amax()

    reach = share * eps if everyone else share * eps / k
    right = worst > centre(clean) + reach
    wrong = -worst > (centre(worst) if everyone else centre(clean) + reach)
    return Truth(right.double().mean().item(), 1 - wrong.double().mean().item())


# Defences with a memory: of what they were asked, of how often, of what they averaged.
#
# ``answer-memory`` keeps every input and its answer, and gives a near-duplicate the stored one: a caller who
# asks for the clean input first never sees a perturbed one answered, though its slope is the model's.
# ``memory-reset`` is the same and forgets when it is told to; of ``memory-false-reset`` being told changes
# nothing. ``alternating`` answers by two models in turn. Truth: that of a defence asked for the first time,
# as an attacker who knows it asks the deployed one: the fragile linear model's, or, of ``alternating``, that
# of two models that one step fools together.
#
# ``running-mean`` centres scores on a mean that it keeps: half of what it had (0 after ``reset``), half of
# the batch's own. Truth after a reset: ``refit``'s, where the centre moves half as far.


class AnswerMemory(Deterministic):
    """Gives an input within ``radius`` (l-infinity) of one asked before the answer that it had then."""

    def __init__(self, name: str, model: linear.LinearModel, radius: float):
        self.name = name
        self.model = model
        self.radius = radius
        self.forget()

    def forget(self) -> None:
        self.queries = torch.empty(0, 0)
        self.answered = torch.empty(0, 2)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        fresh = self.model(x)
        flat = x.detach().flatten(1).cpu()
        if not len(self.queries):
            known = torch.zeros(len(x), dtype=torch.bool)
            answers = fresh.detach().cpu()
        else:
            distance, nearest = torch.cdist(flat, self.queries, p=torch.inf).min(1)
            known, answers = distance <= self.radius, self.answered[nearest]
        new = ~known
        self.queries = torch.cat([self.queries.view(-1, flat.shape[1]), flat[new]])
        self.answered = torch.cat([self.answered, fresh.detach().cpu()[new]])
        stored = linear.with_slope_of(answers.to(x), fresh)
        return torch.where(known.unsqueeze(-1).to(x.device), stored, fresh)


class MemoryWithReset(AnswerMemory):
    """The same, with a reset that forgets everything."""

    def reset(self) -> None:
        self.forget()


class MemoryWithFalseReset(AnswerMemory):
    """The same, with a reset that forgets nothing."""

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
    rate = exactly(max((linear.margins(member, against, y) > 0).double().mean().item() for member in members))
    return Known(Alternating(members), x, y, exactly(1.0), everywhere(rate))


def known_running_mean(n: int = 640, eps: float = 0.05, k: int = 128) -> Known:
    """Margins of 2.2 to 3 eps for four inputs in five, of 0.1 to 0.4 eps for the others: 80%."""
    model = linear.along(linear.pattern(38))
    few = torch.arange(n) % 5 == 0
    distances = torch.where(
        few, linear.spread(0.1 * eps, 0.4 * eps, n), linear.spread(2.2 * eps, 3.0 * eps, n)
    )
    x, y = linear.planted_margins(distances, linear.pattern(38))
    truth = truths(model, x, y, eps, k, share=0.5)
    return Known(RunningMean(model), x, y, truth["clean"], lambda threat: truth[threat.split("/")[0]], k)


def known_remembering(name: str, kind: type[AnswerMemory], n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.fragile(56, n, eps)
    return linear.like_the_model(kind(name, model, 1.01 * eps), model, x, y, eps)
