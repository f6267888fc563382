"""Published random ensembles on digits, attacked by ARC, by gradients averaged over draws, by DiffHammer's
selection of draws and by ``joint``.

    python benchmarks/peers/random_ensembles.py   writes random_ensembles.md

Small members, trained as BAT (arXiv 2002.11565) and BARRE (2302.01375) train theirs: BAT's second member is
trained on images perturbed against the first, which is adversarially trained; BARRE's members in turn on
images perturbed against all members so far. Members are drawn with equal probability for each input. What is
left is the mean over members of the perturbed images' accuracy: no draw is left to chance. Selection has
520 gradients an image, ``joint-33`` 528. Below, what the default settings say, with the first member as base
model.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.losses import margin_loss
from attacks.solver import wide
from benchmarks.smoke import smoke
from robustbench_coded import FreshDraws, PerturbationBudget, attack, evaluate
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.named_sets import load_digits
from zoo.ensembles import WeightedMember

EPS, EPOCHS, STEPS = 0.1, 8, 7
ATTACKS = {
    **{name: name for name in ("pgd-20", "eot10-pgd-20", "eot10-pgd-100", "eot10-apgd-mt-20")},
    "selection, 52 steps of 10 draws": f"{Path(__file__).resolve()}:Selection",
    "joint-33": "joint-33",
}
LIMIT = 256


def member() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def pgd(members: list[nn.Module], x: Tensor, y: Tensor) -> Tensor:
    """Images perturbed on the mean loss of the members."""
    at = x + EPS * (2 * torch.rand_like(x) - 1)
    for _ in range(STEPS):
        at = at.detach().clamp(0, 1).requires_grad_()
        loss = torch.stack([functional.cross_entropy(model(at), y) for model in members]).mean()
        (grad,) = torch.autograd.grad(loss, at)
        at = torch.min(torch.max(at + EPS / 4 * grad.sign(), x - EPS), x + EPS)
    return at.detach().clamp(0, 1)


def arc(members: list[nn.Module], x: Tensor, y: Tensor, steps: int = 20) -> Tensor:
    """ARC in linf: one member after the other moves each image towards its nearest class, and keeps the move
    where no fewer members are fooled (arXiv 2206.06737, section 4).
    """
    best, fooled, rows = x.clone(), wrong(members, x, y).sum(0), torch.arange(len(y))
    for _ in range(steps):
        for model in members:
            at = best.clone().requires_grad_()
            margins = model(at)[rows, y][:, None] - model(at)
            slopes = torch.stack([torch.autograd.grad(m.sum(), at, retain_graph=True)[0] for m in margins.T])
            distance = margins.T / slopes.flatten(2).abs().sum(2).clamp(min=1e-12)
            distance[y, rows] = torch.inf
            nearest = distance.argmin(0)
            size = (distance[nearest, rows].detach().clamp(min=0) + EPS / 10).view(-1, 1, 1, 1)
            moved = best - size * slopes[nearest, rows].sign()
            moved = torch.min(torch.max(moved, x - EPS), x + EPS).clamp(0, 1)
            now = wrong(members, moved, y).sum(0)
            best = torch.where((now >= fooled).view(-1, 1, 1, 1), moved, best)
            fooled = torch.maximum(fooled, now)
    return best


class Selection:
    """DiffHammer (NeurIPS 2024): each step follows the draws that can be fooled together.

    Expectation maximisation finds them by how far a step along the common direction takes each draw's loss.
    Directions are averaged over steps, and APGD's steps are halved where they stall, as in the authors' code;
    their stand-in for the gradient of a diffusion model is not needed here. The result is the point at which
    most draws were fooled.
    """

    draws, steps = 10, 52  # joint-33 has up to 33 gradients under each of 16 draws
    rounds, sharpness = 5, 5.0
    looks = (0.22, 0.41, 0.57, 0.7, 0.8, 0.87, 0.93)  # of the steps

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: FreshDraws,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        ball = budget.around(x)
        at = last = best = ball.uniform(generators)
        size = torch.full(y.shape, 2 * budget.eps)
        most = checked = torch.full(y.shape, -torch.inf)
        direction = torch.zeros_like(x)
        looks = [int(share * self.steps) for share in self.looks]
        for step in range(self.steps):
            answers = estimator.each(at, y, margin_loss, estimator.held(self.draws))
            assert answers.grad is not None
            fooled = (answers.logits.argmax(-1) != y).float().mean(0) + 1e-3 * answers.loss.mean(0).tanh()
            best, most = torch.where(wide(fooled > most), at, best), torch.maximum(fooled, most)
            if step in looks:
                size, checked, at = torch.where(most <= checked, size / 2, size), most, best
            share = (step + 1) ** -0.5
            direction = share * self.common(answers.loss, answers.grad, budget.eps) + (1 - share) * direction
            moved, weight = ball.step_(at.clone(), direction, size), 0.75 if step else 1.0
            moved = at + weight * (moved - at) + (1 - weight) * (at - last)
            last, at = at, ball.project_(moved)
        return best

    def common(self, loss: Tensor, slopes: Tensor, eps: float) -> Tensor:
        """The weighted mean of slopes [n, G, K, C, H, W], from the draw whose own serves the others best."""
        along = torch.einsum("agkchw,bgkchw->abgk", slopes.sign(), slopes)
        first = functional.elu(loss + eps * along).sum(1).argmax(0)
        mean = slopes.gather(0, wide(first)[None].expand_as(slopes[:1]))[0]
        for _ in range(self.rounds):
            reach = loss + eps * (mean.sign() * slopes).sum((-3, -2, -1))
            weights = torch.sigmoid(self.sharpness * reach)[..., None, None, None]
            mean = (weights * slopes).sum(0) / weights.sum(0).clamp(min=1e-30)
        return mean


@torch.no_grad()
def wrong(members: list[nn.Module], x: Tensor, y: Tensor) -> Tensor:
    """[members, n]"""
    return torch.stack([model(x).argmax(1) != y for model in members])


def trained(model: nn.Module, x: Tensor, y: Tensor, perturb, epochs: int) -> nn.Module:
    optimiser = torch.optim.Adam(model.parameters(), lr=0.002)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            at = perturb(x[rows], y[rows])
            optimiser.zero_grad()
            functional.cross_entropy(model(at), y[rows]).backward()
            optimiser.step()
    return model.eval()


def ensembles(epochs: int) -> dict[str, list[nn.Module]]:
    torch.manual_seed(0)
    data = load_digits("train")
    x, y = data.batch(range(len(data)))
    first = member()
    trained(first, x, y, lambda x, y: pgd([first], x, y), epochs)
    bat = [first, trained(member(), x, y, lambda x, y: pgd([first], x, y), epochs)]
    barre: list[nn.Module] = []
    for _ in range(4):
        barre.append(member())
        barre[-1].load_state_dict(first.state_dict())
        trained(barre[-1], x, y, lambda x, y: arc(barre, x, y, steps=2), epochs)
    return {"BAT, 2 members": bat, "BARRE, 4 members": barre}


def default_verdicts(defence: WeightedMember, data: Dataset, limit: int) -> list[str]:
    """What `evaluate` with default settings says, a line per verdict; the first member is the base model."""
    base, named = defence.members[0], {defence.name: defence}
    with tempfile.TemporaryDirectory() as folder:
        run = evaluate(base, data, defences=named, eps=EPS, limit=limit, out=Path(folder) / "run")
        return [f"- {judgement}; {judgement.attack} decides" for judgement in run.judgements]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, default=LIMIT, help="test images")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each member")
    parser.add_argument("--verdicts", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "random_ensembles.md")
    options = parser.parse_args()
    data, lines = load_digits("test"), []
    x, y = data.batch(range(options.limit))
    said: list[str] = []
    table: dict[str, list[str]] = {name: [] for name in ("none", "ARC, 20 steps", *ATTACKS)}
    for name, members in ensembles(options.epochs).items():
        share = torch.full((len(members),), 1 / len(members))
        defence = WeightedMember(name.split(",")[0].lower(), members, share)
        left = lambda x: f"{1 - wrong(members, x, y).double().mean().item():.1%}"  # noqa: E731, B023
        table["none"].append(left(x))
        table["ARC, 20 steps"].append(left(arc(members, x, y)))
        for tried, spec in ATTACKS.items():
            table[tried].append(left(attack(defence, x, y, spec, EPS, seed=0)))
        lines.append(name)
        said += default_verdicts(defence, data, options.limit) if options.verdicts else []
    head = ["| attack | " + " | ".join(lines) + " |", "| --- |" + " --- |" * len(lines)]
    rows = [f"| {name} | {' | '.join(cells)} |" for name, cells in table.items()]
    text = f"# Published random ensembles on digits\n\n{(__doc__ or '').split('md', 1)[1].strip()}\n\n"
    text += (
        f"linf {EPS}, {options.limit} test images; right answers left.\n\n"
        + "\n".join([*head, *rows, "", *said])
        + "\n"
    )
    options.out.write_text(text)


if __name__ == "__main__":
    smoke("--limit 16 --epochs 1 --no-verdicts --out FOLDER/random_ensembles.md")
    main()
