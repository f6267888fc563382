"""Networks whose clean accuracy hardly tells their normalisation: is a robust one ever guessed to be broken?

    python benchmarks/close_normalisations.py [FOLDER]

Small networks without batch-norms are trained, most of them adversarially, each behind a known
normalisation. Those count of which a wrong one answers as many test images rightly, to two points. They are
given without ``--arch`` and ``--normalize``. What is taken and the truth are then attacked with more steps
than recognition takes, on other images. FOLDER (default: a temporary one) keeps networks and lines, so that
a stopped measurement goes on.
"""

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from recognition_networks import FLAT, LENET, SMALL, STRIDED, TRAINED_ON, digits_images, mnist_images, train
from torch import Tensor

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.models.comparison import MARGIN
from robustbench_coded.models.labelled_accuracy import labelled
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN, Normalisation
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.recognition import recognise_network

PAGE = Path(__file__).with_suffix(".md")
SEED = 43
CLOSE = 0.02  # in clean accuracy
STEPS = 50
NAMES = ("none", "half", "mnist")
FLAT_DIGITS = "sequential-8-f64-l64-a-l64-a-l"
STRIDED_DIGITS = "sequential-8-c16k3-a-c32k4-a-f512-l64-a-l"
# The stack, its parts that are not as usual, the radius of its training (0: on clean images), and epochs.
ON_DIGITS = (
    (SMALL, "", 0.1, 40), (SMALL, "", 0.2, 40), (SMALL, "", 0.3, 60), (SMALL, "activation=tanh", 0.2, 40),
    (SMALL, "activation=silu", 0.1, 40), (SMALL, "activation=leaky-relu-0.2", 0.2, 40), (SMALL, "", 0.0, 40),
    (FLAT_DIGITS, "", 0.1, 40), (FLAT_DIGITS, "", 0.2, 40), (STRIDED_DIGITS, "", 0.1, 40),
    (STRIDED_DIGITS, "activation=gelu", 0.15, 40), (SMALL, "activation=elu", 0.15, 40),
)  # fmt: skip
ON_MNIST = ((STRIDED, "", 0.2, 6), (STRIDED, "", 0.3, 8), (FLAT, "", 0.1, 6), (LENET, "", 0.2, 6))


@dataclass(frozen=True)
class Row:
    """One training: what was decided, and accuracies, each in [0, 1].

    Attributes:
        right, near: on clean images, behind its own normalisation and behind the best wrong one, ``by_name``.
        outcome: ``right``, ``asked``, ``wrong``, ``doubted``, or ``other``: a form that falls alike under
            attack.
        truth, chosen: under PGD with STEPS steps, as it was trained and as it is taken.
    """

    network: str
    data: str
    normalisation: str
    eps: float
    right: float
    by_name: str
    near: float
    outcome: str
    taken_for: str
    truth: float
    chosen: float


def trained(
    folder: Path, data: str, given: tuple[str, str, float, int], name: str, seed: int,
    train_images: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor],
) -> Row:  # fmt: skip
    """One network, trained where it is not there, and what recognition makes of its bare file."""
    stack, parts, eps, epochs = given
    arch = f"{stack}[{parts}]" if parts else stack
    path = folder / f"{arch}-{name}-{eps}.safetensors"
    train(
        path,
        arch,
        name,
        *train_images,
        epochs=epochs,
        rate=0.1 if data == "digits" else 0.05,
        seed=seed,
        eps=eps,
    )
    budget = PerturbationBudget("linf", eps or 0.1)

    behind = {each: _model(path, arch, known) for each, known in KNOWN[1].items()}
    clean = {each: labelled(model, *test).accuracy for each, model in behind.items()}
    near = max((each for each in clean if each != name), key=lambda each: clean[each])
    bare = load_checkpoint(path)
    found = recognise_network(bare, *test, budgets=lambda _: [budget])
    images, labels = (part.flip(0)[:512] for part in test)  # recognition attacks the first ones
    truth, chosen = (_robust(model, images, labels, budget) for model in (behind[name], found.model))

    taken = found.chosen.candidate
    same = (found.model(images).argmax(1) == behind[name](images).argmax(1)).double().mean() >= 0.995
    outcome = "right" if taken.normalisation == KNOWN[1][name] and same else "other"
    if outcome == "other" and abs(truth - chosen) > MARGIN:
        outcome = "wrong"
    if found.refusal:
        outcome = "asked" if found.refusal.startswith("its weights fit several forms") else "doubted"
    return Row(arch, data, name, eps, clean[name], near, clean[near], outcome, str(taken), truth, chosen)


def _model(path: Path, arch: str, known: Normalisation) -> PixelModel:
    checkpoint = load_checkpoint(path, arch=arch)
    return PixelModel(checkpoint.network, known.mean, known.std, classes=checkpoint.classes, arch=arch)


def _robust(model: PixelModel, x: Tensor, y: Tensor, budget: PerturbationBudget) -> float:
    """The accuracy left by the better of two runs of PGD on the margin, from random starts."""
    ball, standing = budget.around(x[None]), torch.ones(len(x), dtype=torch.bool)
    for start in range(2):
        adv = ball.uniform([torch.Generator().manual_seed(start)])[0]
        for _ in range(STEPS):
            adv = adv.detach().requires_grad_()
            logits = model(adv)
            own = logits.gather(1, y[:, None])[:, 0]
            loss = logits.scatter(1, y[:, None], -torch.inf).amax(1) - own
            standing &= loss < 0
            (gradient,) = torch.autograd.grad(loss.sum(), adv)
            adv = ball.step_(adv.detach()[None], gradient[None], budget.eps / 8)[0]
        standing &= model(adv).argmax(1) == y
    return float(standing.double().mean())


def written(rows: list[Row], tried: int) -> str:
    """The page in Markdown."""
    count = {
        name: sum(row.outcome == name for row in rows)
        for name in ("right", "other", "asked", "doubted", "wrong")
    }
    head = (
        *("network", "data", "radius", "normalisation", "clean", "the best wrong one", "clean"),
        *("outcome", "taken for", "under attack, as trained", "as taken"),
    )
    lines = [
        "# Networks whose clean accuracy hardly tells their normalisation",
        "",
        f"Of {tried} trainings without batch-norms, {len(rows)} have a wrong normalisation that answers as "
        f"many test images rightly, to {100 * CLOSE:.0f} points. Given as bare files, without `--arch` and "
        f"`--normalize`, {count['wrong']} of them were taken for a form that changes what an attack leaves "
        f"by more than {100 * MARGIN:.0f} points; {count['asked']} were asked about, {count['doubted']} "
        f"refused for another reason, {count['right']} taken as what they are, and {count['other']} as a "
        "form that the attack leaves as much of.",
        "",
        f"Accuracies in percent on test images; under attack PGD on the margin with {STEPS} steps and two "
        "starts, at the radius of the training (0.1 for those on clean images), on at most 512 images: as "
        "the network was trained, and in the form that is taken, or would be first. Made by "
        "`benchmarks/close_normalisations.py`.",
        "",
        f"| {' | '.join(head)} |",
        "| :-- | :-- | --: | :-- | --: | :-- | --: | :-- | :-- | --: | --: |",
    ]
    for row in rows:
        right, near, truth, chosen = (
            f"{100 * value:.1f}" for value in (row.right, row.near, row.truth, row.chosen)
        )
        cells = (row.network, row.data, str(row.eps), row.normalisation, right, row.by_name, near)
        lines.append(f"| {' | '.join((*cells, row.outcome, row.taken_for, truth, chosen))} |")
    return "\n".join([*lines, ""]).replace("[", "\\[")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "lines.jsonl"
    rows = [Row(**json.loads(line)) for line in stored.read_text().splitlines()] if stored.exists() else []
    x, y = mnist_images()
    mnist = (x[:TRAINED_ON], y[:TRAINED_ON]), (x[TRAINED_ON:], y[TRAINED_ON:])
    digits = digits_images("train"), digits_images("test")
    wanted = [
        (data, given, name, images)
        for data, networks, images in (("digits", ON_DIGITS, digits), ("mnist", ON_MNIST, mnist))
        for given in networks
        for name in NAMES
    ]
    for number, (data, given, name, images) in enumerate(wanted):
        if number < len(rows):
            continue
        rows.append(trained(folder, data, given, name, SEED + number, *images))
        with stored.open("a") as file:
            file.write(json.dumps(asdict(rows[-1])) + "\n")
        print(rows[-1], flush=True)
        close = [row for row in rows if row.right - row.near < CLOSE]
        PAGE.write_text(written(close, len(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
