"""Targets and losses for many classes: MALT's order and PMA's margin beside csrobust's and AutoAttack's.

    python benchmarks/peers/many_classes.py --omniglot DIR FOLDER        writes many_classes.md

DIR has `images_background_small1.zip` and `images_background_small2.zip` of Omniglot (brendenlake/omniglot,
folder `python`): 242 characters, drawn by 20 people each. A network is trained here on 15 of them and
attacked on images of the other five. It and outcomes go into FOLDER, which a stopped measurement goes
on with. An image that is forwarded or differentiated once costs 1; the counter stands where the network is
asked, as in the league.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from attacks.apgd import likeliest_wrong
from attacks.apgd_search import search_for
from attacks.attack import Attack, Problem
from attacks.estimators import FreshDraws
from attacks.estimators.base_model import PlainModel
from attacks.losses import Loss, margin_loss, targeted_dlr
from attacks.perturbation_budget import PerturbationBudget
from benchmarks.errors.coverage import write
from benchmarks.peers.league_attacks import LIBRARIES
from benchmarks.peers.league_counter import NEVER, Counted, Spent
from robustbench_coded import attack
from robustbench_coded.runs.atomic import write_text

PAGE = Path(__file__).with_suffix(".md")
SIDE, TRAINED_ON = 28, 15  # pixels; drawers, of 20
EPOCHS, BATCH = 30, 64
IMAGES = 60
BUDGETS = (100, 200, 400, 800, 2000)
STEPS, TARGETS = 100, 9
TRAINED_AT = 0.1
EPS = (0.12, 0.14)  # at 0.1 all attacks end alike, at 0.2 nothing stands


# Images and networks.


def omniglot(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Ink [n, 1, SIDE, SIDE] in [0, 1], characters [n], and who drew each [n]."""
    found = {}
    for number in (1, 2):
        with zipfile.ZipFile(folder / f"images_background_small{number}.zip") as archive:
            for name in archive.namelist():
                if name.endswith(".png"):  # folder/alphabet/character/number_drawer.png
                    _, alphabet, character, file = name.split("/")
                    found[alphabet, character, int(file[-6:-4])] = archive.read(name)
    characters = sorted({key[:2] for key in found})
    pixels = []
    for _, png in sorted(found.items()):
        grey = Image.open(io.BytesIO(png)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        pixels.append(1 - np.asarray(grey, np.float32) / 255)
    x = torch.tensor(np.stack(pixels))[:, None]
    keys = sorted(found)
    labels = torch.tensor([characters.index(key[:2]) for key in keys])
    return x / x.amax((2, 3), keepdim=True), labels, torch.tensor([key[2] for key in keys])


def network(classes: int) -> nn.Module:
    """Four convolutions and a linear layer."""
    layers: list[nn.Module] = []
    for into, out, stride in ((1, 16, 2), (16, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += [nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (SIDE // 4) ** 2, classes))


def moved(x: Tensor) -> Tensor:
    """Images turned, sheared, scaled and shifted a little, each by its own amount."""
    turn, shear, size, right, down = (torch.rand(5, len(x)) - 0.5) * torch.tensor(
        [[0.6], [0.4], [0.3], [0.25], [0.25]]
    )
    size = 1 + size
    rows = [size * turn.cos(), shear - size * turn.sin(), right], [size * turn.sin(), size * turn.cos(), down]
    maps = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = functional.affine_grid(maps, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False).clamp(0, 1)


def trained(x: Tensor, y: Tensor, classes: int) -> nn.Module:
    """By SGD on what two steps of PGD make of moved images, in a ball that grows."""
    torch.manual_seed(0)
    model = network(classes)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=steps)
    for epoch in range(EPOCHS):
        eps = TRAINED_AT * min(1.0, 2 * epoch / EPOCHS)
        for rows in torch.randperm(len(x)).split(BATCH):
            given = moved(x[rows])
            if eps:
                given = perturbed(model.eval(), given, y[rows], eps)
            optimiser.zero_grad()
            functional.cross_entropy(model.train()(given), y[rows]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def perturbed(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Two steps of PGD on cross-entropy from a random start."""
    at = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(2):
        at = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(functional.cross_entropy(model(at), y), at)
        at = torch.minimum(torch.maximum(at + eps / 1.6 * grad.sign(), x - eps), x + eps).clamp(0, 1)
    return at.detach()


# What is compared.


def probability_margin(logits: Tensor, y: Tensor) -> Tensor:
    """The margin loss of probabilities (PMA, arXiv 2411.15210, eq. 6)."""
    return margin_loss(logits.softmax(-1), y)


def by_effect(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, count: int) -> Iterator[Tensor]:
    """The wrong classes that a linear network would give first (MALT, arXiv 2407.02240), [n] each.

    By how much a class is behind, over the l1 norm of that difference's gradient: a step of eps in linf makes
    up for eps times the norm. Of the hundred likeliest classes, as in its authors' code.
    """
    at = x.clone().requires_grad_()
    logits = model(at)
    candidates = torch.stack(list(likeliest_wrong(logits.detach(), y, 100)), 1)
    lead = logits.gather(1, candidates) - logits.gather(1, y[:, None])
    norms = [
        torch.autograd.grad(lead[:, i].sum(), at, retain_graph=True)[0].abs().flatten(1).sum(1)
        for i in range(candidates.shape[1])
    ]
    order = (-lead.detach() / torch.stack(norms, 1).clamp(min=1e-12)).argsort(1)
    yield from candidates.gather(1, order[:, :count]).unbind(1)


@dataclass(frozen=True)
class ApgdSequence(Attack):
    """Runs of Auto-PGD: on losses of all classes, then towards targets from random starts or the best point.

    Attributes:
        losses: of the first runs.
        targets: how many classes later runs aim at.
        effect: in MALT's order at the clean input, in place of that of the logits.
        goes_on: later runs begin at the best point so far, and aim at the likeliest classes there.
    """

    steps: int
    losses: tuple[Loss, ...] = ()
    targets: int = 0
    effect: bool = False
    goes_on: bool = False

    def solve(self, problem: Problem) -> Tensor:
        x, y, estimator, budget, generators, _ = problem
        search = search_for(estimator, budget, x, y, self.steps, early_stop=True)
        for loss in self.losses:
            search.run(search.uniform(generators), search.y, loss)
        if self.targets and not search.over:
            left, at = search.live, search.best_x if self.goes_on else search.x0
            order = torch.zeros(self.targets, *search.y.shape, dtype=torch.long)
            rows, labels = at[0, left], search.y[0, left]
            model = estimator.oracle.model  # type: ignore[attr-defined]
            if self.effect:
                found = by_effect(model, rows, labels, self.targets)
            else:
                with torch.no_grad():
                    logits = model(rows)
                found = likeliest_wrong(logits, labels, self.targets)
            order[:, 0, left] = torch.stack(list(found))
            for target in order:
                begun = search.best_x if self.goes_on else search.uniform(generators)
                search.run(begun, torch.stack([search.y, target], -1), targeted_dlr)
        return search.result()


Run = Callable[[Counted, Tensor, Tensor, float], object]


def named(name: str) -> Run:
    return lambda network, x, y, eps: attack(network, x, y, name, eps, seed=0)


def ours(how: Attack) -> Run:
    def run(network: Counted, x: Tensor, y: Tensor, eps: float) -> Tensor:
        generators = [torch.Generator().manual_seed(0)]
        budget = PerturbationBudget("linf", eps)
        return how.perturb(x[None], y[None], FreshDraws(PlainModel(network)), budget, generators)[0]

    return run


def theirs(name: str, runs: int = 1) -> Run:
    _, entries = LIBRARIES["pyautoattack"]
    return lambda network, x, y, eps: entries[name](network, x, y, eps, 2 * STEPS * runs)


WHOLE = "AutoAttack, `standard`"
CONTENDERS: dict[str, Run] = {
    "AutoAttack, `apgd-ce`": theirs("apgd-ce"),
    "AutoAttack, `apgd-t`": theirs("apgd-t", TARGETS),
    "`apgd-mt-20`": named("apgd-mt-20"),
    "`apgd-mt-100`": named("apgd-mt-100"),
    "`apgd-t-100`": named("apgd-t-100"),
    "`apgd-t-100`, MALT's order": ours(ApgdSequence(STEPS, targets=TARGETS, effect=True)),
    "Auto-PGD on the margin, 100 steps": ours(ApgdSequence(STEPS, (margin_loss,))),
    "Auto-PGD on PMA, 100 steps": ours(ApgdSequence(STEPS, (probability_margin,))),
    "`apgd-mt-100`, PMA for the margin": ours(
        ApgdSequence(STEPS, (probability_margin,), targets=3, goes_on=True)
    ),
    "PMA, then `apgd-t-100` in MALT's order": ours(
        ApgdSequence(STEPS, (probability_margin,), targets=TARGETS, effect=True)
    ),
    "`aa-100`": named("aa-100"),
    WHOLE: theirs("standard"),
}


def measured(model: nn.Module, x: Tensor, y: Tensor, eps: float, run: Run) -> list[int]:
    """Images that it took to break each example; NEVER where it stands."""
    torch.manual_seed(0)
    counted = Counted(model, x, y, eps, NEVER - 1)
    with suppress(Spent):
        run(counted, x, y, eps)
    return counted.broken_at.tolist()


def lines(broken: dict[str, list[int]]) -> Iterator[str]:
    """Markdown, a line for each contender."""
    yield "| attack | " + " | ".join(map(str, BUDGETS)) + " | at its end | images to AutoAttack's end |"
    yield "| --- |" + " ---: |" * (len(BUDGETS) + 2)
    theirs_left = sum(cost == NEVER for cost in broken[WHOLE])
    for name, costs in broken.items():
        left = [sum(cost > budget for cost in costs) for budget in BUDGETS]
        end = sum(cost == NEVER for cost in costs)
        needed = sorted(costs, reverse=True)[theirs_left]
        cells = [f"{100 * n / len(costs):.1f}" for n in (*left, end)]
        yield f"| {name} | {' | '.join(cells)} | {'never' if needed == NEVER else f'{needed:,}'} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--omniglot", type=Path, required=True, help="folder with the two archives")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    x, y, drawer = omniglot(options.omniglot)
    classes, fit = int(y.max()) + 1, drawer <= TRAINED_ON
    path = options.folder / "trained.pt"
    if not path.exists():
        torch.save(trained(x[fit], y[fit], classes).state_dict(), path)
    model = network(classes).eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    x, y = x[~fit], y[~fit]
    with torch.no_grad():
        right = (model(x).argmax(1) == y).nonzero()[:, 0]
    tables = [
        f"{len(right) / len(x):.1%} of {len(x):,} new images are right; {IMAGES} of these are attacked."
    ]
    chosen = right[torch.randperm(len(right), generator=torch.Generator().manual_seed(0))[:IMAGES]]
    x, y = x[chosen], y[chosen]
    for eps in EPS:
        record = options.folder / f"{eps}.json"
        broken = json.loads(record.read_text()) if record.exists() else {}
        for name, run in CONTENDERS.items():
            if name not in broken:
                broken[name] = measured(model, x, y, eps, run)
                write_text(record, json.dumps(broken))
        tables.append(
            "\n".join((f"Linf, eps {eps}:", "", *lines({name: broken[name] for name in CONTENDERS})))
        )
    table = "\n\n".join(tables)
    print(table)
    write("classes", f"{table}\n\npyautoattack {version('pyautoattack')}, torch {torch.__version__}.", PAGE)


if __name__ == "__main__":
    main()
