"""Random defences on 32 x 32 images whose robust accuracy follows from proofs: writes `random_truth.md`.

    python benchmarks/errors/random_truth.py --sources DIR --seed HEX FOLDER [NAME ...]

Draw a seed after this file is committed. Every family has five honest and five broken instances, named
`FAMILY-honest-0` and so on. Each is one run of the default protocol, kept in FOLDER, which a stopped
measurement goes on with. The page keeps the scores of other seeds; with NAMEs it is not written. DIR is that
of `benchmarks/peers/proofs.py`. Without it no network of oval is drawn.

A draw begins with networks that withstand every perturbation of ``eps + shift`` on every image (`Scene`). A
mechanism moves pixels by at most ``shift`` after the attack, or counts votes, so these bounds are its bounds.

    oval       networks of `proofs.py`, on images that others proved for a radius of at least eps + shift
    blocks     logits are weighted means of disjoint blocks of pixels. Two of them come at most
               2 (eps + shift) closer, and a larger lead at the image is a proof

Two things break a network. *Keyholes*: around one point at distance eps, on 1 to 6 pixels, the answer is
another class, whatever the network says there. Twins of honest networks have keyholes that no input within
eps + shift reaches. *Fragile*: blocks that lead by too little, or a larger eps at oval. Robust accuracy is
then at most what the mechanism leaves at one known point of each ball.
"""

import argparse
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.bench.table import pipes
from benchmarks.errors.coverage import write
from benchmarks.errors.twin_parameters import Defended
from benchmarks.errors.zoo_judged import EvaluatedEntry, gradient_evaluations
from benchmarks.peers import proofs
from benchmarks.smoke import smoke
from robustbench_coded import RCI, IncompleteRun, evaluate, load_run
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.schema.words import COMBINED
from zoo.known import Known, Truth, exactly
from zoo.registry import ZooEntry

PAGE = Path(__file__).with_suffix(".md")
EACH, IMAGES, BATCH, CLASSES, VOTERS = 5, 64, 32, 10, 5  # with 32 images no verdict is positive
DRAWS, SLACK = 100, 0.05  # Hoeffding: a mean of 1,600 answers is too low by 0.05 once in 3,000 times
KEYS = torch.linspace(0, 3071, 96).long()  # pixels that tell the images of a scene apart
TRIES = 20


@dataclass(frozen=True)
class Scene:
    """Images with networks that withstand every perturbation of eps + shift on all of them.

    Attributes:
        x, y: [n, 3, 32, 32] in [0, 1] and labels. classes: how many.
        members: networks. about: what was drawn, in words.
    """

    x: Tensor
    y: Tensor
    classes: int
    eps: float
    shift: float
    members: list[nn.Module]
    about: str


class Blocks(nn.Module):
    """Pixels [B, 3, 32, 32] -> weighted means of ten blocks of 8 x 8 pixels."""

    def __init__(self, p: random.Random) -> None:
        super().__init__()
        weights = p.uniform(1, 4) + torch.rand(CLASSES, 3 * 64, generator=generator_of(p))
        self.weights = nn.Buffer(weights / weights.sum(1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bpk,kp->bk", functional.unfold(x, 8, stride=8)[..., :CLASSES], self.weights)


class Pair(nn.Module):
    """A network of oval, of whose logits those two count that an image's proof names."""

    def __init__(self, network: nn.Module, x: Tensor, classes: Tensor) -> None:
        super().__init__()
        self.network, self.x, self.classes = network, nn.Buffer(x), nn.Buffer(classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).gather(1, self.classes[nearest(x, self.x)])


class Keyholes(nn.Module):
    """A network that answers the next class near one point of each image's ball, or beyond it.

    Args:
        pixels: which decide, [n, m]. centres: their values, [n, m]. flat, width: within ``flat`` of the
            centre the answer is that class alone, beyond ``flat + width`` on a pixel the network's own.
    """

    def __init__(
        self, scene: Scene, inner: nn.Module, pixels: Tensor, centres: Tensor, flat: float, width: float
    ) -> None:
        super().__init__()
        self.inner, self.flat, self.width = inner, flat, width
        self.x, self.pixels, self.centres = nn.Buffer(scene.x), nn.Buffer(pixels), nn.Buffer(centres)
        with torch.no_grad():
            reach = inner(scene.x).abs().max().item() + 1
        self.wrong = nn.Buffer(reach * functional.one_hot((scene.y + 1) % scene.classes, scene.classes))

    def forward(self, x: Tensor) -> Tensor:
        i = nearest(x, self.x)
        far = (x.flatten(1).gather(1, self.pixels[i]) - self.centres[i]).abs() - self.flat
        share = (1 - far.relu().sum(1, keepdim=True) / self.width).relu()
        return (1 - share) * self.inner(x) + share * self.wrong[i]


# Scenes.


def generator_of(p: random.Random) -> torch.Generator:
    return torch.Generator().manual_seed(p.getrandbits(32))


def nearest(x: Tensor, images: Tensor) -> Tensor:
    """The image in whose ball each input lies, where no two balls touch on the keys, [B]."""
    stored = images.flatten(1)[:, KEYS]
    return (x.detach().flatten(1)[:, KEYS][:, None] - stored).abs().amax(2).argmin(1)


def separated(x: Tensor, radius: float) -> list[int]:
    """Images whose balls of this radius do not touch on the keys, one after the other."""
    rows, seen = [0], x.flatten(1)[:, KEYS]
    for i in range(1, len(x)):
        if (seen[rows] - seen[i]).abs().amax(1).min() > 2 * radius:
            rows.append(i)
    return rows


def leads(members: Sequence[nn.Module], x: Tensor, y: Tensor) -> Tensor:
    """The right logit less the largest other one, [members, n]."""
    logits = torch.stack([member(x) for member in members])
    place = y.expand(len(members), -1)[..., None]
    return logits.gather(2, place)[..., 0] - logits.scatter(2, place, -math.inf).amax(2)


@torch.enable_grad()
def fallen(members: Sequence[nn.Module], x: Tensor, y: Tensor, eps: float, steps: int = 40) -> Tensor:
    """A point of each ball, where a descent on all members' leads ends."""
    at = x
    for step in range(steps):
        at = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(leads(members, at, y).sum(), at)
        moved = at - eps * max(0.02, 0.5 * (1 - step / steps)) * grad.sign()
        at = torch.min(torch.max(moved, x - eps), x + eps).clamp(0, 1).detach()
    return at


def of_blocks(p: random.Random, count: int, *, fragile: bool) -> Scene:
    """Members with weights of their own on drawn images, smooth and of 256 levels."""
    eps, generator = p.uniform(4, 12) / 255, generator_of(p)
    shift = p.uniform(0.1, 0.3) * eps
    coarse = (
        torch.rand(2000, 1, 4, 4, generator=generator) + torch.rand(2000, 3, 4, 4, generator=generator) / 3
    )
    fine = torch.rand(2000, 3, 32, 32, generator=generator)
    x = ((0.05 + 0.6 * functional.interpolate(coarse, size=32) + 0.1 * fine) * 255).round() / 255
    members: list[nn.Module] = [Blocks(p) for _ in range(count)]
    with torch.no_grad():
        y = members[0](x).argmax(1)
        found = leads(members, x, y)
    if fragile:
        close = ((found.amin(0) > 0) & (found.amax(0) < 1.5 * eps)).nonzero()[: 2 * IMAGES, 0]
        x, y = x[close], y[close]
        with torch.no_grad():
            kept = leads(members, fallen(members, x, y, eps), y).amax(0) < -2 * shift
    else:
        kept = found.amin(0) > 2 * (eps + shift)
    rows = kept.nonzero()[: 2 * IMAGES, 0]
    rows = rows[separated(x[rows], eps + shift)[:IMAGES]]
    return Scene(x[rows], y[rows], CLASSES, eps, shift, members, f"{count} of blocks")


@lru_cache(maxsize=1)
def of_oval(sources: Path) -> dict[str, proofs.Network]:
    return {network.name: network for network in proofs.oval(sources)}


def of_proofs(p: random.Random, count: int, sources: Path, *, fragile: bool) -> Scene:
    """One network of oval, or members of two in turn, on rows that were proved of each."""
    names = ["oval base", "oval wide"] if count > 1 else [p.choice(["oval base", "oval wide", "oval deep"])]
    radius = (p.uniform(4, 8) if count == 1 else 4.2) / 255
    known = [of_oval(sources)[name] for name in names]
    found = [
        {row.name.partition("image ")[2]: row for row in one.rows
         if row.kind == proofs.ROBUST and row.radius >= radius}
        for one in known
    ]  # fmt: skip
    keys = sorted(set.intersection(*map(set, found)))
    of_image = {key.partition(",")[0]: key for key in p.sample(keys, len(keys))}  # one other class each
    rows = [found[0][key] for key in of_image.values()][: 3 * IMAGES]
    x = torch.stack([row.image for row in rows if row.image is not None])
    kept = separated(x, 5 * radius)
    x, y = x[kept], torch.arange(len(kept)) % 2
    sides = torch.tensor([(rows[i].classes[rows[i].label], rows[i].classes[1 - rows[i].label]) for i in kept])
    classes = sides.gather(1, torch.stack([y, 1 - y], 1))
    members: list[nn.Module] = [Pair(known[i % len(known)].network, x, classes) for i in range(count)]
    eps = radius / (1 + p.uniform(0.1, 0.3))
    shift = radius - eps
    if fragile:
        eps *= 3.5
        with torch.no_grad():
            fell = leads(members, fallen(members, x, y, eps / 1.1), y).amax(0) < 0
        x, y = x[fell], y[fell]
    return Scene(x[:IMAGES], y[:IMAGES], 2, eps, shift, members, " and ".join(names))


def pierced(p: random.Random, scene: Scene, holed: Sequence[bool], share: float) -> tuple[Scene, Tensor]:
    """The scene with keyholes, reached in these members on a share of the images, and the points in them."""
    generator, m = generator_of(p), p.choice([1, 2, 3, 4, 6])
    width = m * scene.eps * p.choice([0.2, 0.5, 0.75])  # the last is seen from near the image
    flat, x = scene.shift + 0.1 * scene.eps, scene.x.flatten(1)
    signs = (torch.rand(x.shape, generator=generator) < 0.5) * 2.0 - 1
    ends = x + scene.eps * signs
    order = torch.rand(x.shape, generator=generator).masked_fill((ends < 0) | (ends > 1), 2)
    pixels = order.argsort(1)[:, :m]
    inside = torch.rand(len(x), 1, generator=generator) < share
    beyond = x + signs * (scene.eps + scene.shift + flat + 1.01 * width)
    reached, away = ends.gather(1, pixels), beyond.gather(1, pixels)
    members: list[nn.Module] = [
        Keyholes(scene, member, pixels, torch.where(inside & opened, reached, away), flat, width)
        for member, opened in zip(scene.members, holed, strict=True)
    ]
    points = torch.where(inside, x.scatter(1, pixels, reached), x).view_as(scene.x)
    about = f"{scene.about}; {m} pixels, width {width / scene.eps:.1f} eps"
    return replace(scene, members=members, about=about), points


# Mechanisms: of a scene's members, each within its shift.


def mixture(p: random.Random, scene: Scene, weights: Tensor) -> Defended:
    """Each answer is one member's, drawn by weight."""

    def answer(x: Tensor, chosen: Tensor) -> Tensor:
        return torch.stack([member(x) for member in scene.members])[chosen, torch.arange(len(x))]

    return Defended(
        "mixture", answer, lambda g, k: torch.multinomial(weights, k, True, generator=g), copies=3
    )


def noise(p: random.Random, scene: Scene, weights: Tensor) -> Defended:
    """Noise on each pixel; the logits of one copy, or the votes of five."""
    law, copies = p.choice(["uniform", "signs", "normal"]), p.choice([1, 1, 5])

    def draws(g: torch.Generator, k: int) -> Tensor:
        normal = 0.5 * torch.randn(copies, k, 3, 32, 32, generator=g)
        flat = 2 * torch.rand(copies, k, 3, 32, 32, generator=g) - 1
        return scene.shift * {"uniform": flat, "signs": flat.sign(), "normal": normal.clamp(-1, 1)}[law]

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        logits = scene.members[0]((x + noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        votes = functional.one_hot(logits.argmax(2), scene.classes).to(x)
        return logits[0] if copies == 1 else votes.mean(0)

    return Defended("noise", answer, draws, copies=copies)


def rci(p: random.Random, scene: Scene, weights: Tensor) -> Defended:
    """Pixels of the batch are coded and decoded by RCI, which moves each by at most the shift."""
    coder = RCI(nn.Flatten(), BATCH, p.choice(["1K", "1.5K", "2K"]))

    def answer(x: Tensor, order: Tensor) -> Tensor:
        moved = coder.logits(x, order).view_as(x) - x
        return scene.members[0](x + moved.clamp(-scene.shift, scene.shift))

    return Defended("rci", answer, coder.sample, batch_dependent=True)


def batch(p: random.Random, scene: Scene, weights: Tensor) -> Defended:
    """A statistic of the batch, less that of all images, is taken away, by at most the shift."""
    statistics = [lambda x: x.mean(0), lambda x: x.mean((0, 2, 3), True)[0], lambda x: x.median(0).values]
    statistic, gain = p.choice(statistics), p.choice([1, 4])
    stored = statistic(scene.x)

    def answer(x: Tensor, _: None) -> Tensor:
        return scene.members[0](x - (gain * (statistic(x) - stored)).clamp(-scene.shift, scene.shift))

    return Defended("batch", answer, batch_dependent=True)


def diffusion(p: random.Random, scene: Scene, weights: Tensor) -> Defended:
    """Error diffusion: a pixel is rounded, and the rest carried to the next of its row.

    What is carried is at most half a step, and so is a rounding: a pixel moves by at most a step.
    """
    straight = p.random() < 0.5  # the gradient of the identity, or none

    def answer(x: Tensor, _: None) -> Tensor:
        carried, columns = torch.zeros_like(x[..., 0]), []
        for column in x.detach().unbind(3):
            columns.append(((column + carried) / scene.shift).round() * scene.shift)
            carried = column + carried - columns[-1]
        return scene.members[0](torch.stack(columns, 3) + (x - x.detach() if straight else 0))

    return Defended("diffusion", answer)


def runoff(p: random.Random, scene: Scene, weights: Tensor) -> Defended:
    """Instant runoff: three voters of five rank the classes, and the class with fewest first votes leaves.

    A class that most voters rank first never has the fewest, and one that none ranks first leaves before
    any that has a vote.
    """

    def draws(g: torch.Generator, k: int) -> Tensor:
        return torch.rand(k, VOTERS, generator=g).argsort(1)[:, :3].T  # [3, k]

    def answer(x: Tensor, panel: Tensor) -> Tensor:
        logits = torch.stack([member(x) for member in scene.members])[panel, torch.arange(len(x))]
        turns = torch.zeros_like(logits[0])  # in which a class has left
        for turn in range(1, scene.classes):
            first = logits.detach().masked_fill(turns > 0, -math.inf).argmax(2)
            votes = functional.one_hot(first, scene.classes).sum(0).masked_fill(turns > 0, 4)
            turns = turns.scatter(1, votes.argmin(1, keepdim=True), float(turn))
        return turns + scene.classes * (turns == 0) + 0.2 * logits.mean(0).tanh()

    return Defended("runoff", answer, draws, copies=VOTERS)


Mechanism = Callable[[random.Random, Scene, Tensor], Defended]
FAMILIES: dict[str, tuple[int, Mechanism]] = {  # with how many members
    "mixture": (3, mixture), "noise": (1, noise), "rci": (1, rci),
    "batch": (1, batch), "diffusion": (1, diffusion), "runoff": (VOTERS, runoff),
}  # fmt: skip
KINDS = ("-honest-", "-broken-")
NAMES = [f"{family}{kind}{i}" for family in FAMILIES for kind in KINDS for i in range(EACH)]


# Instances, their runs, and the page.


def left(defence: Defended, x: Tensor, y: Tensor, draws: int) -> float:
    """The share of answers that are right."""
    generator, right, turns = torch.Generator().manual_seed(0), 0, draws if defence.randomised else 1
    k = BATCH if defence.batch_dependent else len(x)
    with torch.no_grad():
        for images, labels in list(zip(x.split(k), y.split(k), strict=True)) * turns:
            logits = defence.logits(images, defence.sample(generator, len(images)))
            right += int((logits.argmax(1) == labels).sum())
    return right / len(x) / turns


def make(name: str, seed: str, sources: Path | None) -> tuple[Scene, Defended, Truth]:
    """An instance; it is drawn again where a condition of its proofs does not hold."""
    for attempt in range(TRIES):
        scene, defence, truth, points = drawn(name, random.Random(f"{name} {seed} {attempt}"), sources)
        clean, measured = (left(defence, at, scene.y, 20) for at in (scene.x, points))
        if clean == 1 and abs(measured - truth.high) < 0.1 and len(scene.x) >= 16:
            return scene, defence, truth
    raise AssertionError(f"{name}, seed {seed}: no draw meets the conditions")


def drawn(name: str, p: random.Random, sources: Path | None) -> tuple[Scene, Defended, Truth, Tensor]:
    """A defence with its truth, and points at which no more is left."""
    family, broken = name.partition("-")[0], "-broken-" in name
    count, mechanism = FAMILIES[family]
    fragile = broken and p.random() < 0.4
    natural = sources is not None and p.random() < 0.5 and not (fragile and (count > 1 or family == "rci"))
    if natural and sources is not None:
        scene = of_proofs(p, count, sources, fragile=fragile)
    else:
        scene = of_blocks(p, count, fragile=fragile)
    whole = len(scene.x) // BATCH * BATCH if family in ("rci", "batch") else len(scene.x)
    scene = replace(scene, x=scene.x[:whole], y=scene.y[:whole])
    shares = torch.tensor([p.uniform(0.5, 2) for _ in scene.members])
    weights, holed, share = shares / shares.sum(), torch.ones(count, dtype=torch.bool), 1.0
    if not broken and count > 1 and p.random() < 0.5:
        holed = weights == weights.min()  # in one member alone
    elif not broken:
        share = p.choice([0.0, 0.0, 0.25])
    if fragile:
        scene = replace(scene, about=f"{scene.about}, fragile")
        points = fallen(scene.members, scene.x, scene.y, scene.eps)
        defence = mechanism(p, scene, weights)
        measured = left(defence, points, scene.y, DRAWS) + (SLACK if defence.randomised else 0)
        return scene, defence, Truth(0, measured if natural else 0), points
    scene, points = pierced(p, scene, holed.tolist(), share)
    touched = (points != scene.x).flatten(1).any(1).double().mean().item()
    lost = 0.0 if family == "runoff" and not holed.all() else float(weights[holed].sum())
    return scene, mechanism(p, scene, weights), exactly(round(1 - touched * lost, 6)), points


def evaluated(name: str, seed: str, out: Path, sources: Path | None, **options: Any) -> list[dict[str, Any]]:
    """What the default protocol says of an instance under each threat model, the unknown draw first."""
    scene, defence, truth = make(name, seed, sources)
    started, batches = time.process_time(), {"batch_size": BATCH} if defence.batch_dependent else {}
    options |= {"norm": "linf", "eps": scene.eps, "limit": len(scene.x), "threads": 1, "standard": False}
    data, defences = (scene.x, scene.y), {defence.name: defence}
    network = scene.members[0]
    try:
        options |= {"defences": defences, "out": str(out), "listener": Listener(), **batches}
        run = evaluate(network, data, **options)
    except IncompleteRun as incomplete:
        run = load_run(incomplete.path)
    entry = ZooEntry(defence.name, "", "", "-broken-" in name, "", "linf", scene.eps, len(scene.x))
    known = Known(defence, scene.x, scene.y, exactly(1.0), lambda _: truth)
    gradients = gradient_evaluations(run.summary[~run.summary["attack"].isin(COMBINED)])
    protocol, seconds = run.manifest.protocol, time.process_time() - started
    same = {"instance": name, "about": scene.about, "truth": truth.high, "gradients": gradients,
            "seconds": seconds, "protocol": protocol.version if protocol else 0}  # fmt: skip
    return [
        same | {"threat": one.threat, "verdict": one.verdict, "sense": one.sense, "low": one.low,
                "accuracy": one.estimate, "high": one.high, "fair": one.fair, "holds": one.holds,
                "reason": one.reason}
        for one in EvaluatedEntry(entry, known, run).findings
    ]  # fmt: skip


HEAD = ("instances", "wrong positives", "wrong negatives", "open", "intervals that exclude the truth",
        "gradient evaluations per image, median", "processor seconds")  # fmt: skip


def score(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The cells of `HEAD`. An instance is wrong if any of its verdicts is, and open if the first one is."""
    first = list({line["instance"]: line for line in reversed(lines)}.values())
    unfair = [(line["instance"], line["sense"]) for line in lines if not line["fair"]]
    wrong = [len({name for name, of in unfair if of == sense}) for sense in ("positive", "negative")]
    opened = sum(line["sense"] == "open" for line in first)
    outside = len({line["instance"] for line in lines if not line["holds"]})
    gradients = statistics.median(line["gradients"] for line in first)
    seconds = sum(line["seconds"] for line in first)
    return [*map(str, (len(first), *wrong, opened, outside)), f"{gradients:,.0f}", f"{seconds:,.0f}"]


def tables(lines: Sequence[dict[str, Any]], seed: str) -> dict[str, str]:
    """Markdown: the scores of all seeds, this one's by family, and every verdict that is open or wrong."""
    version = f"| `{seed}` | {lines[0]['protocol']} |"
    parts = {kind: [line for line in lines if kind in line["instance"]] for kind in KINDS}
    rows: list[tuple[str, ...]] = [("seed", "protocol", "truth", *HEAD)]
    rows += [(f"`{seed}`", str(lines[0]["protocol"]), kind[1:-1], *score(of)) for kind, of in parts.items()]
    head, dashes, *fresh = pipes(rows).split("\n")
    block = PAGE.read_text(encoding="utf-8").partition("scores: begin -->")[2].partition("<!--")[0]
    earlier = [line for line in block.split("\n") if line.startswith("| `") and not line.startswith(version)]
    families: list[tuple[str, ...]] = [("family", "truth", *HEAD)]
    for family in FAMILIES:
        for kind, of in parts.items():
            if mine := [line for line in of if line["instance"].startswith(family)]:
                families.append((f"`{family}`", kind[1:-1], *score(mine)))
    listed = [
        f"- `{line['instance']}`, {line['threat']} ({line['about']}): truth {line['truth']:.1%}. "
        f"{line['reason']}{'' if line['fair'] else ' **Wrong.**'}"
        f"{'' if line['holds'] else ' **The interval excludes the truth.**'}"
        for line in lines
        if line["sense"] == "open" or not (line["fair"] and line["holds"])
    ]
    (n, _, false, opens, _, *_), (m, missed, _, unsettled, _, *_) = map(score, parts.values())
    answer = (
        "" if len({line["instance"] for line in lines}) == len(NAMES) else "The measurement is not done. "
    )
    answer += (
        f"With seed `{seed}` and protocol {lines[0]['protocol']}, csrobust accepts {missed} of {m} broken "
        f"defences and leaves {unsettled} open;\nit condemns {false} of {n} honest ones and leaves {opens}."
    )
    scores = "\n".join([head, dashes, *earlier, *fresh])
    texts = {"answer": answer, "scores": scores, "families": pipes(families)}
    return texts | {"verdicts": "\n".join(listed or ["None."])}


def main() -> None:
    smoke("--seed 0 --attacks pgd-3 FOLDER noise-broken-0 batch-honest-0")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--attacks", help="In place of the default protocol.")
    parser.add_argument("--tables", action="store_true", help="Write the page from FOLDER; run nothing.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    folder, lines = options.folder / options.seed, []
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {"attacks": options.attacks} if options.attacks else {}
    for name in options.names or NAMES:
        kept = folder / f"{name}.json"
        if options.tables and not kept.exists():
            continue
        if not kept.exists():
            found = evaluated(name, options.seed, folder / name, options.sources, **chosen)
            write_text(kept, json.dumps(found, indent=1))
            print(
                *(f"{name:20} {line['threat']:14} {line['reason']}" for line in found), sep="\n", flush=True
            )
        lines += json.loads(kept.read_text())
    for name, text in {} if options.names else tables(lines, options.seed).items():
        write(name, text, PAGE)


if __name__ == "__main__":
    main()
