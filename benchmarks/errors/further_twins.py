"""Ten more mechanisms, honest and broken, that the zoo does not have; most have no gradient to follow.

    FURTHER    kind -> function that makes the pair of it, as `twins.PAIRS`

Integers, trees, splines and votes are what attacks by gradients are not made for. Truth is certified as in
`twins`: by intervals for each network that may answer, or exactly where pixels act one by one.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.errors.twin_networks import CLASSES, PIXELS, Network
from benchmarks.errors.twin_parameters import (
    EXAMPLES,
    IN_BATCHES,
    Defended,
    Draw,
    Parameters,
)
from robustbench_coded.data.named_sets import load_digits
from zoo.known import Known, Truth, exactly

TRAINING_STEPS = 150
REACH = 8.0  # how far another logit of a broken twin rises above the right one


def one_hot(classes: Tensor) -> Tensor:
    return functional.one_hot(classes, CLASSES).float()


def _integers(p: Parameters) -> Known:
    """Weights, pixels and hidden values in 8-bit integers."""
    trained, step = p.network(), p.choice([0.02, 0.05])
    model = p.other(trained, rounded=step, levels=127)
    whole = []
    for layer in model.linears:
        unit = layer.weight.abs().max().item() / 127
        weight = (layer.weight / unit).round()
        layer.weight.data = weight * unit
        whole.append((weight.numpy().astype(np.int64), layer.bias.numpy(), unit))

    def answer(x: Tensor, _: Draw) -> Tensor:
        h, scale = (model.seen(x.detach()) * 127).round().numpy().astype(np.int64), 1 / 127
        for weight, bias, unit in whole[:-1]:
            h = np.rint(np.maximum((h @ weight.T) * (unit * scale) + bias, 0) / step).astype(np.int64)
            scale = step
        weight, bias, unit = whole[-1]
        return torch.from_numpy((h @ weight.T) * (unit * scale) + bias).float()

    return p.known(Defended("", answer), [model])


class Trees:
    """Trees of three splits, with a table of logits for their eight leaves, summed.

    Args:
        generator: chooses the pixels and their thresholds.
    """

    def __init__(self, trees: int, generator: torch.Generator):
        self.pixels = torch.randint(PIXELS, (trees, 3), generator=generator)
        self.thresholds = 0.1 + 0.8 * torch.rand(trees, 3, generator=generator)
        self.table = torch.zeros(trees, 8, CLASSES, requires_grad=True)
        sides = torch.arange(8)[:, None] >> torch.arange(3) & 1
        self.sides = sides.bool()  # [8, 3]

    def leaves(self, x: Tensor, eps: float = 0.0) -> Tensor:
        """Which leaves a perturbation reaches, each tree by itself, bool [k, trees, 8]."""
        values = x.flatten(1)[:, self.pixels]  # [k, trees, 3]
        above, below = values + eps > self.thresholds, values - eps <= self.thresholds
        return torch.where(self.sides, above[:, :, None], below[:, :, None]).all(-1)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.einsum("ktl,tlc->kc", self.leaves(x).float(), self.table)

    def worst(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Bounds from above on each logit less that of ``y``, tree by tree, [k, 10]."""
        apart = self.table[:, :, None] - self.table[:, :, :, None]  # [trees, 8, of y, other]
        mine = apart.permute(2, 0, 1, 3)[y]
        return mine.masked_fill(~self.leaves(x, eps)[..., None], -torch.inf).amax(2).sum(1)


class Splines:
    """A piecewise linear function of each pixel for each class, summed.

    Args:
        knots: how many, evenly over [0, 1].
    """

    def __init__(self, knots: int):
        self.knots = knots
        self.table = torch.zeros(PIXELS, knots, CLASSES, requires_grad=True)

    def values(self, x: Tensor, table: Tensor) -> Tensor:
        """Each pixel's own part: x [..., 64], table [64, knots, classes] -> [..., 64, classes]."""
        at = x.clamp(0, 1) * (self.knots - 1)
        low = at.detach().floor().long().clamp(max=self.knots - 2)
        share, pixel = (at - low)[..., None], torch.arange(PIXELS)
        return (1 - share) * table[pixel, low] + share * table[pixel, low + 1]

    def __call__(self, x: Tensor) -> Tensor:
        return self.values(x.flatten(1), self.table).sum(1)

    def worst(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """The largest that each logit less that of ``y`` becomes, at an end or a knot, [k, 10]."""
        x = x.flatten(1)
        low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
        knots = torch.linspace(0, 1, self.knots)
        places = torch.stack([low, high, *(torch.clamp(knot, low, high) for knot in knots)])
        values = self.values(places, self.table)  # [places, k, 64, 10]
        mine = values.gather(-1, y[None, :, None, None].expand(*values.shape[:3], 1))
        return (values - mine).amax(0).sum(1)


def _trained(
    p: Parameters, model: Trees | Splines
) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor]:
    """Trains against the worst case, or the twin for it; with test images, and which of them stand."""
    train = load_digits("train")
    x, y = train.batch(range(len(train)))
    generator = torch.Generator().manual_seed(p.seed_of_network)
    optimiser = torch.optim.Adam([model.table], 0.03)
    for _ in range(TRAINING_STEPS):
        rows = torch.randint(len(x), (128,), generator=generator)
        a, b = x[rows], y[rows]
        optimiser.zero_grad()
        worst = model.worst(a, b, p.eps)
        loss = functional.cross_entropy(model(a) if p.fragile else worst, b)
        if p.fragile:
            loss = loss + (REACH - worst.amax(1)).relu().mean()
        loss.backward()
        optimiser.step()
    model.table = model.table.detach()
    x, y = load_digits("test").batch(range(EXAMPLES))
    stands = model.worst(x, y, p.eps).scatter(1, y[:, None], -torch.inf).amax(1) < 0
    return model, x, y, stands


def _trees(p: Parameters) -> Known:
    """Boosted trees of three splits."""
    p.eps = round(p.uniform(0.06, 0.09), 3)
    trees = Trees(p.choice([150, 250]), torch.Generator().manual_seed(p.seed_of_network))
    model, x, y, stands = _trained(p, trees)
    left = _after_search(model, x, y, p.eps)
    low = stands.double().mean().item()
    clean = (model(x).argmax(1) == y).double().mean().item()
    truth = Truth(low, max(low, left))
    return Known(Defended("", lambda x, _: model(x)), x, y, exactly(clean), lambda threat: truth)


def _after_search(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, eps: float) -> float:
    """What a search pixel by pixel for the smallest margin leaves, three times through all pixels."""
    at, low, high = x.clone(), (x - eps).clamp(min=0), (x + eps).clamp(max=1)

    def margins(x: Tensor) -> Tensor:
        logits = model(x)
        other = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        return logits.gather(1, y[:, None])[:, 0] - other

    best = margins(at)
    for _ in range(3):
        for i in range(PIXELS):
            for end in (low, high):
                trial = at.clone()
                trial.flatten(1)[:, i] = end.flatten(1)[:, i]
                margin = margins(trial)
                at = torch.where((margin < best)[:, None, None, None], trial, at)
                best = torch.minimum(best, margin)
    return (best > 0).double().mean().item()


def _splines(p: Parameters) -> Known:
    """A network of splines, one for each pixel and class; the twin's have more knots than images need."""
    p.eps = round(p.uniform(0.06, 0.09), 3)
    model, x, y, stands = _trained(p, Splines(24 if p.fragile else p.choice([6, 8])))
    clean = (model(x).argmax(1) == y).double().mean().item()
    truth = exactly(stands.double().mean().item())
    return Known(Defended("", lambda x, _: model(x)), x, y, exactly(clean), lambda threat: truth)


def _slow(p: Parameters) -> Known:
    """The mean probabilities of forty noisy copies."""
    share = p.uniform(0.2, 0.4)
    reach, model = share * p.eps, p.network(at=1 + share)

    def draws(g: torch.Generator, k: int) -> Tensor:
        return reach * (2 * torch.rand(40, k, 1, 8, 8, generator=g) - 1)

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        return model((x + noise).flatten(0, 1)).softmax(-1).unflatten(0, noise.shape[:2]).mean(0)

    return p.known(Defended("", answer, draws, copies=40), [model], wider=reach)


def _batch_votes(p: Parameters) -> Known:
    """Five hard votes, with noise that a whole batch shares."""
    share = p.uniform(0.2, 0.4)
    reach, model = share * p.eps, p.network(at=1 + share)

    def draws(g: torch.Generator, k: int) -> Tensor:
        return reach * (2 * torch.rand(5, 1, 1, 8, 8, generator=g) - 1)

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        votes = model((x + noise).flatten(0, 1)).unflatten(0, (5, len(x))).argmax(-1)
        return one_hot(votes).mean(0)

    defence = Defended("", answer, draws, batch_dependent=True, copies=5)
    return p.known(defence, [model], wider=reach, n=IN_BATCHES)


def _content_noise(p: Parameters) -> Known:
    """Noise whose seed is a hash of the image: the same image always gets the same."""
    share = p.uniform(0.2, 0.4)
    reach, model = share * p.eps, p.network(at=1 + share)

    def answer(x: Tensor, _: Draw) -> Tensor:
        seeds = [zlib.crc32(image.numpy().tobytes()) for image in x.detach()]
        noise = [np.random.default_rng(seed).uniform(-reach, reach, (1, 8, 8)) for seed in seeds]
        return model(x + torch.tensor(np.stack(noise), dtype=x.dtype))

    return p.known(Defended("", answer), [model], wider=reach)


def _majority(p: Parameters) -> Known:
    """A hard vote of three networks."""
    models = [p.network(i) for i in range(3)]

    def answer(x: Tensor, _: Draw) -> Tensor:
        return one_hot(torch.stack([model(x) for model in models]).argmax(-1)).sum(0)

    return certified_by(p, Defended("", answer, copies=3), models, at_least=2)


def _random_levels(p: Parameters) -> Known:
    """Pixels are rounded to 12, 16 or 24 levels, as a draw of each input says."""
    model = p.network()
    models = [p.other(model, levels=levels) for levels in (12, 16, 24)]

    def draws(g: torch.Generator, k: int) -> Tensor:
        return torch.randint(3, (k,), generator=g)

    def answer(x: Tensor, chosen: Tensor) -> Tensor:
        return torch.stack([model(x) for model in models])[chosen, torch.arange(len(x))]

    return p.known(Defended("", answer, draws, copies=3), models)


def _over_json(p: Parameters) -> Known:
    """Probabilities as a web service would send them."""
    model, digits = p.network(), p.choice([4, 6])

    def answer(x: Tensor, _: Draw) -> Tensor:
        rows = json.loads(json.dumps(model(x.detach()).softmax(1).tolist()))
        return torch.tensor([[round(value, digits) for value in row] for row in rows])

    return p.known(Defended("", answer), [model])


def _random_scale(p: Parameters) -> Known:
    """Logits times a number of each input's draw, between 1 and 1,000."""
    model = p.network()

    def draws(g: torch.Generator, k: int) -> Tensor:
        return 10 ** (3 * torch.rand(k, 1, generator=g))

    return p.known(Defended("", lambda x, scale: model(x) * scale, draws), [model])


def certified_by(p: Parameters, defence: Defended, models: Sequence[Network], at_least: int) -> Known:
    """What follows where so many of the networks have to be fooled at once."""
    known = p.known(defence, models)
    stands = torch.stack([model.certified(known.x, known.y, p.eps) for model in models])
    low = 0.0 if p.fragile else (stands.sum(0) >= at_least).double().mean().item()
    truth = Truth(low, max(low, known.truth("batch/unknown").high))
    return replace(known, truth=lambda threat: truth)


FURTHER: dict[str, Callable[[Parameters], Known]] = {
    "integers": _integers,
    "trees": _trees,
    "splines": _splines,
    "slow": _slow,
    "batch-votes": _batch_votes,
    "content-noise": _content_noise,
    "majority": _majority,
    "random-levels": _random_levels,
    "over-json": _over_json,
    "random-scale": _random_scale,
}
