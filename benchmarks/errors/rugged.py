"""Rugged landscapes that no rule was made on, bare and behind wrappers that change next to nothing.

    python benchmarks/errors/rugged.py FOLDER FAMILY WRAPPER SEED   judges one of them into FOLDER
    python benchmarks/errors/rugged.py FOLDER   the table of all that was judged there

Values of the pixels before a linear layer, trained against PGD on scikit-learn's digits: ten triangle waves of
each pixel (``triangles``), its Chebyshev polynomials up to degree 16 or 32 (``chebyshev``, ``higher``), triangle
waves of sums of three (``triples``), steep sigmoids of differences of two (``comparators``), three layers of
sines (``periodic``), cosines of random projections of the image (``fourier``).

Truth is bounded from above by the strongest attack at hand: starts of targeted PGD, then every pixel in turn
to the best of 33 values, a few times. Only its upper end is known.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.losses import margin_loss
from benchmarks.errors.twins import Defended, Draw, Twin
from benchmarks.errors.twins_run import table
from benchmarks.errors.zoo_judged import evaluate_known
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.defences.options import installed
from zoo.encodings import BATCH, EPOCHS, _attacked
from zoo.known import Known, Truth, exactly

PIXELS, CLASSES, EXAMPLES, K, EPS = 64, 10, 160, 16, 0.1
STARTS, STEPS, VALUES, SWEEPS = 9, 40, 17, 2


Code = Callable[[Tensor], Tensor]  # pixels [k, 64] -> values


def _triangles() -> Code:
    cycles, shift = 1 + 10 * torch.rand(10), torch.rand(10)
    return lambda x: (4 * ((x[..., None] * cycles + shift) % 1 - 0.5).abs() - 1).flatten(1)


def _chebyshev(degree: int = 16) -> Code:
    def values(x: Tensor) -> Tensor:
        found = [torch.ones_like(x), 2 * x - 1]
        for _ in range(degree - 1):
            found.append(2 * found[1] * found[-1] - found[-2])
        return torch.cat(found[1:], 1)

    return values


def _higher() -> Code:
    return _chebyshev(32)


def _comparators() -> Code:
    (one, other), levels = torch.randint(PIXELS, (2, 256)), torch.linspace(-0.8, 0.8, 9)
    return lambda x: torch.sigmoid(60 * ((x[:, one] - x[:, other])[..., None] - levels)).flatten(1)


def _periodic() -> Code:
    layers = nn.ModuleList(nn.Linear(a, 32) for a in (PIXELS, 32, 32))

    def values(x: Tensor) -> Tensor:
        for layer in layers:
            x = (5 * layer(x)).sin()
        return x

    values.layers = layers  # trained with the others
    return values


def _fourier() -> Code:
    directions, shift = 1.1 * torch.randn(PIXELS, 600), 6.2832 * torch.rand(600)
    return lambda x: (x @ directions + shift).cos()


def _triples() -> Code:
    members, shift = torch.stack([torch.randperm(PIXELS)[:3] for _ in range(600)]), torch.rand(600)
    cycles = 0.5 + 1.5 * torch.rand(600)
    return lambda x: 4 * ((x[:, members].sum(-1) * cycles + shift) % 1 - 0.5).abs() - 1


class Network(nn.Module):
    """A linear layer over values of the pixels."""

    def __init__(self, code: Code):
        super().__init__()
        self.code, self.inner = code, getattr(code, "layers", None)
        self.layer = nn.Linear(code(torch.zeros(1, PIXELS)).shape[1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.code(x.flatten(1)))


def trained(family: str, seed: int) -> Network:
    """Against PGD, as the encodings of the zoo are."""
    data = load_digits("train")
    x, y = data.batch(range(len(data)))
    torch.manual_seed(seed)
    model = Network(globals()[f"_{family}"]())
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = functional.cross_entropy(model(_attacked(model, x[rows], y[rows], EPS)), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval().requires_grad_(False)


def _mixed(x: Tensor, seed: int) -> Tensor:
    """A random rotation of the batch, and its inverse."""
    g = torch.Generator().manual_seed(seed)
    code = torch.linalg.qr(torch.randn(len(x), len(x), generator=g))[0].to(x)
    return (code.T @ (code @ x.flatten(1))).view_as(x)


def wrapped(model: nn.Module, wrapper: str) -> Defended:
    def seeds(g: torch.Generator, k: int) -> Draw:
        return int(torch.randint(2**31, (), generator=g))

    def uniform(g: torch.Generator, k: int) -> Draw:
        return 2 * torch.rand(k, 1, 8, 8, generator=g) - 1

    def answer(x: Tensor, draw: Draw) -> Tensor:
        if wrapper == "tied":  # logits of the others count a little
            logits = model(x)
            return logits + 0.02 * logits.mean(0)
        if wrapper == "scaled":
            return model(x) * (1 + 0.5 * draw[:, 0, 0, :1])
        return model(
            {"noise": lambda: x + 0.001 * draw, "code": lambda: _mixed(x, draw)}.get(wrapper, lambda: x)()
        )

    draws = {"noise": uniform, "scaled": uniform, "code": seeds}.get(wrapper)
    return Defended("", answer, draws, batch_dependent=wrapper in ("tied", "code"))


def worst(model: nn.Module, x: Tensor, y: Tensor, eps: float = EPS) -> Tensor:
    """Where the strongest attack at hand leaves every image."""
    best, low, high = x.clone(), (x - eps).clamp(0), (x + eps).clamp(max=1)

    def keep(at: Tensor) -> None:
        better = margin_loss(model(at), y) > margin_loss(model(best), y)
        best[better] = at[better]

    for start in range(STARTS):
        at, other = low + (high - low) * torch.rand_like(x), (y + 1 + start % (CLASSES - 1)) % CLASSES
        for step in range(STEPS):
            at.requires_grad_()
            logits = model(at)
            aim = (logits.gather(1, other[:, None]) - logits.gather(1, y[:, None])).sum()
            (grad,) = torch.autograd.grad(aim, at)
            at = torch.min(torch.max(at.detach() + eps / 2 * (1 - step / STEPS) * grad.sign(), low), high)
        keep(at)
    with torch.no_grad():
        for pixel in [p for _ in range(SWEEPS) for p in torch.randperm(PIXELS).tolist()]:
            for share in torch.linspace(0, 1, VALUES):
                at = best.clone()
                at.flatten(1)[:, pixel] = (low + share * (high - low)).flatten(1)[:, pixel]
                keep(at)
    return best


def known(family: str, wrapper: str, seed: int) -> Known:
    """A wrapped network, and what is left of it at the worst points of the bare one."""
    model = trained(family, seed)
    x, y = load_digits("test").batch(range(EXAMPLES))
    at, defence, g = worst(model, x, y), wrapped(model, wrapper), torch.Generator().manual_seed(seed)
    defence.name = f"{family}-{wrapper}-{seed}"

    def accuracy(images: Tensor) -> float:
        draws = [defence.sample(g, K) for _ in range(20)]
        hits = [
            defence.logits(a, d).argmax(1) == b for d in draws for a, b in zip(images.split(K), y.split(K))
        ]
        return torch.cat(hits).double().mean().item()

    truth = Truth(0.0, accuracy(at))
    return Known(defence, x, y, exactly(accuracy(x)), lambda threat: truth, k=K)


def main(folder: Path, *chosen: str) -> None:
    """Judges what is named, or prints the table."""
    if not chosen:
        print(table(folder))
        return
    started, found = time.process_time(), known(chosen[0], chosen[1], int(chosen[2]))
    name = found.defence.name
    entry = installed()[name] = Twin(name, "rugged", "", True, "", "linf", EPS, EXAMPLES, found)
    one = evaluate_known(entry, found, folder / name, threads=1, until="settled").findings[0]
    said = {
        "name": name, "threat": one.threat, "truth": [0.0, one.truth.high], "left": [one.low, one.estimate, one.high],
        "verdict": one.verdict, "fair": one.verdict != "no failure found" or one.estimate <= one.truth.high + 0.03,
        "reason": one.reason, "seconds": time.process_time() - started,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps([said], indent=1))
    print(
        f"{name:28} {100 * one.truth.high:5.1f} {100 * one.estimate:5.1f} {one.verdict} {said['seconds']:.0f} s"
    )
    print("   ", one.reason, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
