"""Honest defences of certified truth, each beside a broken twin of the same look.

    PAIRS        kind -> function that makes the pair of it
    make(kind, seed, fragile) -> (Twin, Known)

A pair shares a mechanism and its parameters, drawn from a seed. The honest one stands on a network that
intervals certify (or is exact), the twin on a fragile one, of which next to nothing is left. Truth: a draw of
the randomness that answers by a certified network answers right, whatever the attacker does and knows; what a
descent on the networks underneath leaves of the defence is the other end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.errors.further_twins import FURTHER, certified_by
from benchmarks.errors.twin_networks import CLASSES, PIXELS, Network
from benchmarks.errors.twin_parameters import EXAMPLES, IN_BATCHES, Defended, Draw, Parameters
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.defences.options import installed
from zoo import certified, coupled, ensembles, linear
from zoo.known import Known, exactly
from zoo.registry import ZooEntry


def _heads(chance: float) -> Callable[[torch.Generator, int], Tensor] | None:
    """A coin for each input, that falls with a probability."""
    return (lambda g, k: torch.rand(k, generator=g) < chance) if chance else None


def _plain(p: Parameters) -> Known:
    model = p.network()
    return p.known(Defended("", lambda x, _: model(x)), [model])


def _gaining(p: Parameters) -> Known:
    """Names an undefended network as its base."""
    model = p.network()
    return p.known(Defended("", lambda x, _: model(x), base=p.base()), [model])


def _rounded(p: Parameters) -> Known:
    """Hidden values are rounded."""
    model = p.other(p.network(), rounded=p.choice([0.05, 0.1, 0.2]))
    return p.known(Defended("", lambda x, _: model(x)), [model])


def _quantised(p: Parameters) -> Known:
    """Pixels are rounded to a few levels, under a base that is not."""
    model = p.other(p.network(), levels=p.choice([8, 16, 32]))
    return p.known(Defended("", lambda x, _: model(x), base=p.base()), [model])


def _hard(p: Parameters) -> Known:
    """The answer alone, or logits so large that cross-entropy is flat."""
    model, scale = p.network(), p.choice([0.0, 300.0])

    def answer(x: Tensor, _: Draw) -> Tensor:
        logits = model(x)
        return scale * logits if scale else functional.one_hot(logits.argmax(1), CLASSES).to(x)

    return p.known(Defended("", answer), [model])


def _coin(p: Parameters) -> Known:
    """Another class now and then, as a coin of each input says."""
    model, chance = p.network(), p.uniform(0.03, 0.2)

    def answer(x: Tensor, heads: Tensor) -> Tensor:
        logits = model(x)
        return torch.where(heads[:, None], logits.roll(1, 1), logits)

    return p.known(Defended("", answer, _heads(chance)), [model], right=1 - chance)


def _hard_coin(p: Parameters) -> Known:
    """The same, and the answer is a class without a gradient."""
    model, chance = p.network(), p.uniform(0.03, 0.2)

    def answer(x: Tensor, heads: Tensor) -> Tensor:
        found = model(x).argmax(1)
        return functional.one_hot(torch.where(heads, (found + 1) % CLASSES, found), CLASSES).to(x)

    return p.known(Defended("", answer, _heads(chance)), [model], right=1 - chance)


def _noise(p: Parameters) -> Known:
    """Uniform noise on the pixels of each input."""
    share = p.uniform(0.2, 0.5)
    reach, model = share * p.eps, p.network(at=1 + share)

    def draws(g: torch.Generator, k: int) -> Tensor:
        return reach * (2 * torch.rand(k, 1, 8, 8, generator=g) - 1)

    return p.known(Defended("", lambda x, noise: model(x + noise), draws), [model], wider=reach)


def _votes(p: Parameters) -> Known:
    """A vote of noisy copies: slow, and piecewise constant."""
    copies, share = p.choice([9, 15]), p.uniform(0.2, 0.5)
    reach, model = share * p.eps, p.network(at=1 + share)

    def draws(g: torch.Generator, k: int) -> Tensor:
        return reach * (2 * torch.rand(copies, k, 1, 8, 8, generator=g) - 1)

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        votes = model((x + noise).flatten(0, 1)).unflatten(0, noise.shape[:2]).argmax(-1)
        return functional.one_hot(votes, CLASSES).to(x).mean(0)

    return p.known(Defended("", answer, draws, copies=copies), [model], wider=reach)


def _dithered(p: Parameters) -> Known:
    """Noise before the pixels are rounded, another base named."""
    levels = p.choice([16, 24, 32])
    reach = 0.5 / levels
    model = p.network(at=1 + reach / p.eps)
    inner = p.other(model, levels=levels)

    def draws(g: torch.Generator, k: int) -> Tensor:
        return reach * (2 * torch.rand(k, 1, 8, 8, generator=g) - 1)

    defence = Defended("", lambda x, noise: inner((x + noise).clamp(0, 1)), draws, base=p.base())
    return p.known(defence, [inner], wider=reach)


def _members(p: Parameters) -> Known:
    """Each input is answered by one of several networks."""
    return _of_members(p, [p.network(further) for further in range(p.choice([2, 3, 4]))])


def _masks(p: Parameters) -> Known:
    """The same with networks that see other pixels, under an undefended base."""
    models = [p.network(further, masked=p.uniform(0.05, 0.2)) for further in range(3)]
    return _of_members(p, models, p.base())


def _of_members(p: Parameters, models: Sequence[Network], base: nn.Module | None = None) -> Known:
    def answer(x: Tensor, chosen: Tensor) -> Tensor:
        return torch.stack([model(x) for model in models])[chosen, torch.arange(len(x))]

    def draws(g: torch.Generator, k: int) -> Tensor:
        return torch.randint(len(models), (k,), generator=g)

    return p.known(Defended("", answer, draws, base=base, copies=len(models)), models)


def _in_numpy(p: Parameters) -> Known:
    """Nothing of torch is left to differentiate."""
    model, chance = p.network(), p.choice([0.0, p.uniform(0.03, 0.15)])
    weights = [(layer.weight.numpy(), layer.bias.numpy()) for layer in model.linears]

    def answer(x: Tensor, heads: Tensor | None) -> Tensor:
        h = x.detach().numpy().reshape(len(x), -1)
        for w, b in weights[:-1]:
            h = np.maximum(h @ w.T + b, 0)
        logits = torch.from_numpy(h @ weights[-1][0].T + weights[-1][1])
        return logits if heads is None else torch.where(heads[:, None], logits.roll(1, 1), logits)

    return p.known(Defended("", answer, _heads(chance)), [model], right=1 - chance)


def _routed(p: Parameters) -> Known:
    """The brighter half of an image says which of two networks answers it."""
    models = [p.network(), p.network(1)]

    def answer(x: Tensor, _: Draw) -> Tensor:
        first = x[..., :4].sum((1, 2, 3)) > x[..., 4:].sum((1, 2, 3))
        return torch.where(first[:, None], models[0](x), models[1](x))

    return certified_by(p, Defended("", answer), models, at_least=2)


def _shuffled(p: Parameters) -> Known:
    """Takes the mean of the batch away and adds it again; three batches, an undefended base."""
    model = p.network()

    def answer(x: Tensor, _: Draw) -> Tensor:
        mean = x.mean(0, keepdim=True)
        return model((x - mean) + mean)

    return p.known(Defended("", answer, batch_dependent=True, base=p.base()), [model], n=IN_BATCHES)


def _batch_coin(p: Parameters) -> Known:
    """One coin for the whole batch says which of two networks answers it; three batches."""
    models = [p.network(), p.network(1)]
    base = p.choice([None, p.base()])

    def draws(g: torch.Generator, k: int) -> int:
        return int(torch.randint(2, (), generator=g))

    defence = Defended("", lambda x, i: models[i](x), draws, batch_dependent=True, base=base)
    return p.known(defence, models, n=IN_BATCHES)


def _refitted(p: Parameters) -> Known:
    """Scores centred on the batch (`zoo.coupled`)."""
    n, eps = IN_BATCHES, round(p.uniform(0.04, 0.06), 3)
    few = torch.arange(n) % 5 == 0
    narrow, wide = linear.spread(0.1 * eps, 0.4 * eps, n), linear.spread(2.8 * eps, 3.3 * eps, n)
    p.eps = eps
    return coupled._known_refit("", narrow if p.fragile else torch.where(few, narrow, wide), eps)


class Stumps(nn.Module):
    """A table of logits for each pixel and each of its steps, summed: boosted stumps.

    Args:
        table: [64, steps, 10].
    """

    def __init__(self, table: Tensor):
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        return self.table[torch.arange(PIXELS), self.step(x)].sum(1)

    def step(self, x: Tensor) -> Tensor:
        steps = self.table.shape[1]
        return (x.flatten(1) * steps).floor().long().clamp(0, steps - 1)

    def worst(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """The largest that each logit less that of ``y`` can become: exact, pixel by pixel, [k, 10]."""
        apart = self.table[:, :, None] - self.table[:, :, :, None]  # [64, steps, of y, other]
        low, high = self.step((x - eps).clamp(min=0)), self.step((x + eps).clamp(max=1))
        steps = torch.arange(self.table.shape[1])
        inside = (steps >= low[..., None]) & (steps <= high[..., None])
        mine = apart.permute(2, 0, 1, 3)[y]  # [k, 64, steps, other]
        return mine.masked_fill(~inside[..., None], -torch.inf).amax(2).sum(1)


def _boosted(p: Parameters) -> Known:
    """Boosted stumps, trained on their exact worst case; the twin is trained without and has finer steps."""
    eps, train = round(p.uniform(0.06, 0.09), 3), load_digits("train")
    p.eps = eps
    x, y = train.batch(range(len(train)))
    steps, coin = p.choice([4, 5]), p.choice([0.0, 0.1])
    steps = 12 if p.fragile else steps
    generator = torch.Generator().manual_seed(p.seed_of_network)
    model = Stumps(torch.zeros(PIXELS, steps, CLASSES, requires_grad=True))
    optimiser = torch.optim.Adam([model.table], 0.03)
    for _ in range(120):
        rows = torch.randint(len(x), (128,), generator=generator)
        a, b = x[rows], y[rows]
        logits = model(a) if p.fragile else model.worst(a, b, eps)
        optimiser.zero_grad()
        functional.cross_entropy(logits, b).backward()
        optimiser.step()
    model.table = model.table.detach()
    if p.fragile:  # a ripple from step to step, that leaves the answers to clean images as they are
        model.table = model.table + 0.2 * torch.randn(model.table.shape, generator=generator)
    x, y = load_digits("test").batch(range(EXAMPLES))
    stands = (model.worst(x, y, eps).scatter(1, y[:, None], -torch.inf).amax(1) < 0).double().mean().item()
    clean = (model(x).argmax(1) == y).double().mean().item()

    def answer(x: Tensor, heads: Tensor | None) -> Tensor:
        logits = model(x)
        return logits if heads is None else torch.where(heads[:, None], logits.roll(1, 1), logits)

    truth = exactly((1 - coin) * stands)
    return Known(Defended("", answer, _heads(coin)), x, y, exactly((1 - coin) * clean), lambda threat: truth)


def _lipschitz(p: Parameters) -> Known:
    """A 1-Lipschitz network (`zoo.certified`), in l2."""
    p.eps, n = round(p.uniform(0.2, 0.3), 3), EXAMPLES
    if p.fragile:
        return certified._known_lipschitz("", n, p.eps, away=0.0, within=0.5 * p.eps, seed=p.seed_of_network)
    return certified._known_lipschitz("", n, p.eps, away=4 * p.eps, seed=p.seed_of_network)


def _smoothed(p: Parameters) -> Known:
    """Gaussian smoothing (`zoo.certified`), in l2."""
    p.eps, n, votes = round(p.uniform(0.2, 0.3), 3), EXAMPLES, p.choice([7, 11])
    make = certified.known_smoothing_thin if p.fragile else certified.known_smoothing
    return make(n, p.eps, votes)


def _linear_members(p: Parameters) -> Known:
    """Linear members, fooled together or one at a time (`zoo.ensembles`)."""
    p.eps = round(p.uniform(0.04, 0.055), 3)
    gains = [10 ** p.uniform(-1, 1) for _ in range(5)]
    margin = p.uniform(0.3, 0.42) if p.fragile else p.uniform(0.57, 0.7)
    weights = [0.2] * 5
    return ensembles.known_members("", margin, gains, weights, n=EXAMPLES, eps=p.eps)


PAIRS: dict[str, Callable[[Parameters], Known]] = {
    "plain": _plain,
    "gaining": _gaining,
    "rounded": _rounded,
    "quantised": _quantised,
    "hard": _hard,
    "coin": _coin,
    "hard-coin": _hard_coin,
    "noise": _noise,
    "votes": _votes,
    "dithered": _dithered,
    "members": _members,
    "masks": _masks,
    "numpy": _in_numpy,
    "routed": _routed,
    "shuffled": _shuffled,
    "batch-coin": _batch_coin,
    "refitted": _refitted,
    "boosted": _boosted,
    "lipschitz": _lipschitz,
    "smoothed": _smoothed,
    "linear-members": _linear_members,
    **FURTHER,
}
IN_L2 = ("lipschitz", "smoothed")


@dataclass(frozen=True)
class Twin(ZooEntry):
    """One of a pair, as if it stood in the zoo.

    Attributes:
        known: what `load` gives.
    """

    known: Known | None = None

    def load(self, n: int | None = None) -> Known:
        """What is known of it; ``n`` is not used."""
        assert self.known is not None
        return self.known


def make(kind: str, seed: int, *, fragile: bool) -> tuple[Twin, Known]:
    """One of a pair, with what is known of it; evaluations find it by its name."""
    parameters = Parameters(kind, seed, fragile=fragile)
    known = PAIRS[kind](parameters)
    name = f"{kind}-{seed}{'-twin' if fragile else ''}"
    known.defence.name = name
    about = (PAIRS[kind].__doc__ or "An interval-trained network.").strip().split("\n")[0]
    norm = "l2" if kind in IN_L2 else "linf"
    entry = Twin(name, kind, "", fragile, about, norm, parameters.eps, len(known.x), known)
    installed()[name] = entry
    return entry, known
