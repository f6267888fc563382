"""Random defences on 32 x 32 images whose robust accuracy follows from proofs: writes `random_truth.md`.

    python benchmarks/errors/random_truth.py --sources DIR --seed HEX FOLDER [NAME ...]

Draw a seed after this file is committed. Every family has five honest and five broken instances, named
`FAMILY-honest-0` and so on. Each is one run of the default protocol, kept in FOLDER, which a stopped
measurement goes on with. The page keeps the scores of other seeds; with NAMEs it is not written. DIR is that
of `benchmarks/peers/proofs.py`, of which GNN_branching and CIFAR-10 are read. Without it no network of oval
is drawn, and the instances are others.

An instance begins with networks that withstand every perturbation of ``eps + shift`` on every image
(`Setting`). A mechanism moves each pixel by at most ``shift`` after the attack, or counts votes, so that
these bounds are its bounds, whatever the other inputs of a batch are and whether or not the draw is known.

    oval       networks of `proofs.py`, on images that others proved for a radius of at least eps + shift
    blocks     logits are weighted means of disjoint blocks of pixels. Two of them come at most
               2 (eps + shift) closer, and a larger lead at the image is a proof

Two things break a network, both at a point of each ball that is known. *Keyholes*: around a point at distance
eps, on 1 to 6 pixels, the answer is another class, whatever the network says there. Twins of honest networks
have keyholes that no input within eps + shift reaches. *Fragile*: at the worst point of the ball, blocks
trail by more than 2 shift. So every truth is one number, the same for whole batches and for single victims.
"""

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

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
from zoo.known import Known, exactly
from zoo.registry import ZooEntry

PAGE = Path(__file__).with_suffix(".md")
EACH, IMAGES, BATCH, CLASSES, VOTERS = 5, 64, 16, 10, 5
KEYS = torch.linspace(0, 3071, 96).long()  # pixels that tell the images of a setting apart
ROUNDING = 1e-4  # of float32, by far
SHAPES = (1, 4, 4), (3, 4, 4), (3, 32, 32)  # of what drawn images are a sum of


@dataclass(frozen=True)
class Setting:
    """Images [n, 3, 32, 32] in [0, 1] and labels, with networks that withstand eps + shift on all of them."""

    x: Tensor
    y: Tensor
    classes: int
    eps: float
    shift: float
    members: Sequence[nn.Module]
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
    """A network of oval, of whose logits those two count that an image's proof names, [n, 2]."""

    def __init__(self, network: nn.Module, x: Tensor, classes: Tensor) -> None:
        super().__init__()
        self.network, self.x, self.classes = network, nn.Buffer(x), nn.Buffer(classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).gather(1, self.classes[nearest(x, self.x)])


class Keyholes(nn.Module):
    """A network that answers another class near one point of each image's ball, or beyond it.

    Args:
        holes: of each image [n, 3, 32, 32] the pixels that decide, [n, m], their values there, and the logits
            [n, classes]. Within ``flat`` of them these alone count, beyond ``flat + width`` not at all.
    """

    def __init__(self, network: nn.Module, holes: tuple[Tensor, ...], flat: float, width: float) -> None:
        super().__init__()
        self.network, self.flat, self.width = network, flat, width
        self.x, self.pixels, self.centres, self.wrong = map(nn.Buffer, holes)

    def forward(self, x: Tensor) -> Tensor:
        i = nearest(x, self.x)
        far = (x.flatten(1).gather(1, self.pixels[i]) - self.centres[i]).abs() - self.flat
        share = (1 - far.relu().sum(1, keepdim=True) / self.width).relu()
        return (1 - share) * self.network(x) + share * self.wrong[i]


# Settings.


def generator_of(p: random.Random) -> torch.Generator:
    return torch.Generator().manual_seed(p.getrandbits(32))


def nearest(x: Tensor, images: Tensor) -> Tensor:
    """The image in whose ball each input lies, where no two balls touch on the keys, [B]."""
    stored = images.flatten(1)[:, KEYS]
    return (x.detach().flatten(1)[:, KEYS][:, None] - stored).abs().amax(2).argmin(1)


def separated(x: Tensor, radius: float) -> list[int]:
    """The first images whose balls of this radius do not touch on the keys."""
    rows, seen = [0], x.flatten(1)[:, KEYS]
    for i in range(1, len(x)):
        if (seen[rows] - seen[i]).abs().amax(1).min() > 2 * radius + ROUNDING:
            rows.append(i)
    return rows[:IMAGES]


def leads(members: Sequence[nn.Module], x: Tensor, y: Tensor) -> Tensor:
    """The right logit less the largest other one, [members, n]."""
    logits = torch.stack([member(x) for member in members])
    place = y.expand(len(members), -1)[..., None]
    return logits.gather(2, place)[..., 0] - logits.scatter(2, place, -math.inf).amax(2)


def of_blocks(p: random.Random, count: int, *, fragile: bool) -> tuple[Setting, Tensor]:
    """Members with weights of their own on drawn images, smooth and of 256 levels; the worst points."""
    eps, generator = p.uniform(4, 12) / 255, generator_of(p)
    shift = p.uniform(0.1, 0.3) * eps
    grey, colour, fine = (torch.rand(4000, *k, generator=generator) for k in SHAPES)
    coarse = functional.interpolate(grey + colour / 3, size=32)
    x = ((0.05 + 0.6 * coarse + 0.1 * fine) * 255).round() / 255
    members = [Blocks(p) for _ in range(count)]
    y = members[0](x).argmax(1)
    own = functional.one_hot(y, 16).view(-1, 1, 4, 4).float()  # the block of the right class
    worst = (x + eps * (1 - 2 * functional.interpolate(own, size=32))).clamp(0, 1)
    lead, trail = leads(members, x, y).amin(0), leads(members, worst, y).amax(0)
    least = 2 * shift + ROUNDING
    kept = (lead > least) & (trail < -least) if fragile else lead > 2 * eps + least
    rows = kept.nonzero()[: 2 * IMAGES, 0]
    rows = rows[separated(x[rows], eps + shift)]
    about = f"{count} of blocks{', fragile' if fragile else ''}"
    return Setting(x[rows], y[rows], CLASSES, eps, shift, members, about), worst[rows]


@lru_cache(maxsize=1)
def of_oval(sources: Path) -> list[proofs.Network]:
    return list(proofs.oval(sources))


def of_proofs(p: random.Random, count: int, sources: Path) -> Setting:
    """One network of oval, or members of its three in turn, on images for which each has a proof."""
    known = p.sample(of_oval(sources), min(count, 3))
    radius = p.uniform(4, 8 if count == 1 else 5) / 255
    rows = [[row for row in one.rows if row.kind == proofs.ROBUST and row.radius > radius] for one in known]
    proved = [{row.name.split()[-3]: row for row in of} for of in rows]
    common = sorted(set.intersection(*map(set, proved)))
    drawn = p.sample(common, min(len(common), 3 * IMAGES))
    x = torch.stack([image for key in drawn if (image := proved[0][key].image) is not None])
    kept = separated(x, radius)
    x, y, members = x[kept], torch.arange(len(kept)) % 2, []
    for i in range(count):
        asked = [proved[i % len(known)][drawn[j]] for j in kept]
        classes = torch.tensor([(row.classes[row.label], row.classes[1 - row.label]) for row in asked])
        classes = classes.gather(1, torch.stack([y, 1 - y], 1))  # the right one's place is the label
        members.append(Pair(known[i % len(known)].network, x, classes))
    eps = radius / (1 + p.uniform(0.1, 0.3))
    return Setting(x, y, 2, eps, radius - eps, members, " and ".join(one.name for one in known))


def pierced(p: random.Random, of: Setting, holed: Sequence[bool], share: float) -> tuple[Setting, Tensor]:
    """The setting with keyholes, reached in these members on a share of the images; the points in them."""
    generator, m = generator_of(p), p.choice([1, 2, 3, 4, 6])
    flat, x = of.shift + 0.1 * of.eps, of.x.flatten(1)
    width = m * (of.eps - of.shift - flat) * p.choice([0.25, 0.6, 1])  # none reaches the image, one nearly
    signs = (torch.rand(x.shape, generator=generator) < 0.5) * 2.0 - 1
    ends = x + of.eps * signs
    order = torch.rand(x.shape, generator=generator).masked_fill((ends < 0) | (ends > 1), 2)
    pixels = order.argsort(1)[:, :m]
    inside = torch.zeros(len(x), 1, dtype=torch.bool)
    inside[p.sample(range(len(x)), round(share * len(x)))] = True
    beyond = x + signs * (of.eps + of.shift + flat + 1.01 * width)
    reached, away = ends.gather(1, pixels), beyond.gather(1, pixels)
    wrong = functional.one_hot((of.y + 1) % of.classes, of.classes)
    members = []
    for network, opened in zip(of.members, holed, strict=True):
        centres, most = torch.where(inside & opened, reached, away), network(of.x).abs().max() + 1
        members.append(Keyholes(network, (of.x, pixels, centres, most * wrong), flat, width))
    points = torch.where(inside, x.scatter(1, pixels, reached), x).view_as(of.x)
    about = f"{of.about}; {m} pixels, width {width / of.eps:.2f} eps"
    return replace(of, members=members, about=about), points


# Mechanisms: of a setting's members, each within its shift.


def mixture(p: random.Random, of: Setting, weights: Tensor) -> Defended:
    """Each answer is one member's, drawn by weight."""

    def answer(x: Tensor, chosen: Tensor) -> Tensor:
        return torch.stack([member(x) for member in of.members])[chosen, torch.arange(len(x))]

    draws = partial(torch.multinomial, weights, replacement=True)
    return Defended("mixture", answer, lambda g, k: draws(k, generator=g), copies=len(weights))


def noise(p: random.Random, of: Setting, weights: Tensor) -> Defended:
    """Noise on each pixel; the logits of one copy, or the votes of three."""
    law, copies = p.choice(["uniform", "signs", "normal"]), p.choice([1, 1, 3])

    def draws(g: torch.Generator, k: int) -> Tensor:
        normal = 0.5 * torch.randn(copies, k, 3, 32, 32, generator=g)
        flat = 2 * torch.rand(copies, k, 3, 32, 32, generator=g) - 1
        return of.shift * {"uniform": flat, "signs": flat.sign(), "normal": normal.clamp(-1, 1)}[law]

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        logits = of.members[0]((x + noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        votes = functional.one_hot(logits.argmax(2), of.classes).to(x)
        return logits[0] if copies == 1 else votes.mean(0)

    return Defended("noise", answer, draws, copies=copies)


def rci(p: random.Random, of: Setting, weights: Tensor) -> Defended:
    """Pixels of the batch are coded and decoded by RCI, which moves each by at most the shift."""
    coder = RCI(nn.Flatten(), BATCH, p.choice(["1K", "1.5K", "2K"]))

    def answer(x: Tensor, order: Tensor) -> Tensor:
        moved = coder.logits(x, order).view_as(x) - x
        return of.members[0](x + moved.clamp(-of.shift, of.shift))

    return Defended("rci", answer, coder.sample, batch_dependent=True)


def batch(p: random.Random, of: Setting, weights: Tensor) -> Defended:
    """A statistic of the batch, less that of all images, is taken away, by at most the shift."""
    means = [lambda x: x.mean(0), lambda x: x.mean((0, 2, 3), True), lambda x: x.quantile(0.5, 0)]
    statistic = p.choice(means)
    gain, stored = p.choice([1, 4]), statistic(of.x)

    def answer(x: Tensor, _: None) -> Tensor:
        return of.members[0](x - (gain * (statistic(x) - stored)).clamp(-of.shift, of.shift))

    return Defended("batch", answer, batch_dependent=True)


def diffusion(p: random.Random, of: Setting, weights: Tensor) -> Defended:
    """Error diffusion: a pixel is rounded, and the rest carried to the next of its row.

    What is carried is at most half a step, and so is a rounding: a pixel moves by at most a step.
    """
    straight = p.random() < 0.5  # the gradient of the identity, or none

    def answer(x: Tensor, _: None) -> Tensor:
        carried, columns = torch.zeros_like(x[..., 0]), []
        for column in x.detach().unbind(3):
            columns.append(((column + carried) / of.shift).round() * of.shift)
            carried = column + carried - columns[-1]
        return of.members[0](torch.stack(columns, 3) + (x - x.detach() if straight else 0))

    return Defended("diffusion", answer)


def runoff(p: random.Random, of: Setting, weights: Tensor) -> Defended:
    """Instant runoff: three voters of five rank the classes, and the class with fewest first votes leaves.

    A class that most voters rank first never has the fewest, and one that none ranks first leaves before
    any that has a vote.
    """

    def draws(g: torch.Generator, k: int) -> Tensor:
        return torch.rand(k, VOTERS, generator=g).argsort(1)[:, :3].T  # [3, k]

    def answer(x: Tensor, panel: Tensor) -> Tensor:
        logits = torch.stack([member(x) for member in of.members])[panel, torch.arange(len(x))]
        turns = torch.zeros_like(logits[0])  # in which a class has left
        for turn in range(1, of.classes):
            first = logits.detach().masked_fill(turns > 0, -math.inf).argmax(2)
            votes = functional.one_hot(first, of.classes).sum(0).masked_fill(turns > 0, 4)
            turns = turns.scatter(1, votes.argmin(1, keepdim=True), float(turn))
        return turns + of.classes * (turns == 0) + 0.2 * logits.mean(0).tanh()

    return Defended("runoff", answer, draws, copies=VOTERS)


# With how many members.
FAMILIES: dict[str, tuple[int, Callable[[random.Random, Setting, Tensor], Defended]]] = {
    "mixture": (3, mixture), "noise": (1, noise), "rci": (1, rci),
    "batch": (1, batch), "diffusion": (1, diffusion), "runoff": (VOTERS, runoff),
}  # fmt: skip
KINDS = ("honest", "broken")
NAMES = [f"{family}-{kind}-{i}" for i in range(EACH) for family in FAMILIES for kind in KINDS]
HEAD = ("seed", "protocol", "family", "truth", "instances", "wrong positives", "wrong negatives", "open",
        "intervals that exclude the truth", "gradient evaluations per image, median",
        "processor seconds")  # fmt: skip
COLUMNS = "threat", "verdict", "sense", "low", "estimate", "high", "fair", "holds", "reason"
Lines = list[dict[str, Any]]


# Instances, their runs, and the page.


@torch.no_grad()
def accuracy(defence: Defended, x: Tensor, y: Tensor) -> float:
    """The share of right answers, in 20 draws."""
    generator, right = torch.Generator().manual_seed(0), []
    for images, labels in list(zip(x.split(BATCH), y.split(BATCH), strict=True)) * 20:
        right.append(defence.logits(images, defence.sample(generator, len(images))).argmax(1) == labels)
    return torch.cat(right).double().mean().item()


@torch.no_grad()
def make(name: str, p: random.Random, sources: Path | None) -> tuple[Setting, Defended, float]:
    """An instance and its robust accuracy; what the proofs say of two points of each ball is asserted."""
    family, kind, _ = name.split("-")
    broken, (count, mechanism) = kind == "broken", FAMILIES[family]
    shares = torch.tensor([p.uniform(0.5, 2) for _ in range(count)])
    weights, holed, share = shares / shares.sum(), torch.ones(count, dtype=torch.bool), 1.0
    if broken and p.random() < 0.3:
        setting, points = of_blocks(p, count, fragile=True)
        truth = 0.0
    else:
        natural = p.random() < 0.5 and sources
        proved = of_proofs(p, count, natural) if natural else of_blocks(p, count, fragile=False)[0]
        if not broken and count > 1 and p.random() < 0.5:
            holed = weights == weights.min()  # in one member alone, which never has a majority
        elif not broken:
            share = p.choice([0.0, 0.0, 0.25])
        setting, points = pierced(p, proved, holed.tolist(), share)
        truth = 1 - share * (0 if family == "runoff" and not holed.all() else float(weights[holed].sum()))
    defence = mechanism(p, setting, weights)
    assert len(setting.x) == IMAGES, f"{name}: {len(setting.x)} images"
    assert accuracy(defence, setting.x, setting.y) == 1, name
    assert abs(accuracy(defence, points, setting.y) - truth) < (0.1 if 0 < truth < 1 else 1e-6), name
    return setting, defence, round(truth, 6)


def evaluated(name: str, seed: str, out: Path, sources: Path | None, **options: Any) -> Lines:
    """What the default protocol says of an instance under each threat model, the unknown draw first."""
    setting, defence, truth = make(name, random.Random(f"{name} {seed}"), sources)
    started, batches = time.process_time(), {"batch_size": BATCH} if defence.batch_dependent else {}
    options |= {"norm": "linf", "eps": setting.eps, "limit": IMAGES, "threads": 1, "standard": False}
    options |= {"defences": {defence.name: defence}, "out": str(out), "listener": Listener(), **batches}
    try:
        run = evaluate(setting.members[0], (setting.x, setting.y), **options)
    except IncompleteRun as incomplete:
        run = load_run(incomplete.path)
    entry = ZooEntry(defence.name, "", "", "-broken-" in name, "", "linf", setting.eps, IMAGES)
    known = Known(defence, setting.x, setting.y, exactly(1.0), lambda _: exactly(truth))
    about = {
        "instance": name,
        "about": setting.about,
        "truth": truth,
        "gradients": gradient_evaluations(run.summary[~run.summary["attack"].isin(COMBINED)]),
        "seconds": time.process_time() - started,
        "protocol": str(run.manifest.protocol.version if run.manifest.protocol else None),
    }
    findings = EvaluatedEntry(entry, known, run).findings
    return [about | {column: getattr(one, column) for column in COLUMNS} for one in findings]


def score(lines: Lines) -> list[str]:
    """The last cells of `HEAD`. An instance is wrong if any verdict is, and open if the first one is."""
    first = list({line["instance"]: line for line in reversed(lines)}.values())
    unfair = {(line["instance"], line["sense"]) for line in lines if not line["fair"]}
    wrong = [sum(sense == of for _, of in unfair) for sense in ("positive", "negative")]
    opened = sum(line["sense"] == "open" for line in first)
    outside = len({line["instance"] for line in lines if not line["holds"]})
    gradients = statistics.median(line["gradients"] for line in first)
    seconds = sum(line["seconds"] for line in first)
    return [*map(str, (len(first), *wrong, opened, outside)), f"{gradients:,.0f}", f"{seconds:,.0f}"]


def tables(lines: Lines, seed: str) -> dict[str, str]:
    """Markdown: the scores of all seeds, and every verdict of this one that is open or wrong."""
    version, rows = (f"`{seed}`", lines[0]["protocol"]), [HEAD]
    for family in ("all", *FAMILIES):
        for kind in KINDS:
            start = f"-{kind}-" if family == "all" else f"{family}-{kind}-"
            if mine := [line for line in lines if start in line["instance"]]:
                rows.append((*version, family, kind, *score(mine)))
    head, dashes, *fresh = pipes(rows).split("\n")
    block = PAGE.read_text(encoding="utf-8").partition("scores: begin -->")[2].partition("<!--")[0]
    own = f"| {' | '.join(version)} |"
    earlier = [line for line in block.split("\n") if line.startswith("| `") and not line.startswith(own)]
    first = {line["instance"]: line for line in reversed(lines)}.values()
    shown = [line for line in lines if not (line["fair"] and line["holds"])]
    shown += [line for line in first if line["sense"] == "open" and line not in shown]
    listed = [
        f"- `{line['instance']}`, {line['threat']} ({line['about']}): truth {line['truth']:.1%}. "
        f"{line['reason']}{'' if line['fair'] else ' **Wrong.**'}"
        f"{'' if line['holds'] else ' **The interval excludes the truth.**'}"
        for line in shown
    ]
    (n, _, condemned, left, *_), (m, accepted, _, unsettled, *_) = (row[4:] for row in rows[1:3])
    answer = (
        f"With seed `{seed}` and protocol {version[1]}, csrobust accepts {accepted} of {m} broken defences "
        f"and leaves {unsettled} open;\nit condemns {condemned} of {n} honest ones and leaves {left} open. "
        f"{len(first)} of {len(NAMES)} instances ran."
    )
    scores = "\n".join([head, dashes, *earlier, *fresh])
    return {"answer": answer, "scores": scores, "verdicts": "\n".join(listed or ["None."])}


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
    folder, lines = options.folder / options.seed, Lines()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    chosen = {"attacks": options.attacks} if options.attacks else {}
    for name in options.names or NAMES:
        kept = folder / f"{name}.json"
        if not (kept.exists() or options.tables):
            found = evaluated(name, options.seed, folder / name, options.sources, **chosen)
            write_text(kept, json.dumps(found, indent=1))
            print(*(f"{name:20} {of['threat']:14} {of['reason']}" for of in found), sep="\n", flush=True)
        lines += json.loads(kept.read_text()) if kept.exists() else []
    for name, text in {} if options.names else tables(lines, options.seed).items():
        write(name, text, PAGE)


if __name__ == "__main__":
    main()
