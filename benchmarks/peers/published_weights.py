"""csrobust on weights that other authors published with a proof or a figure: `published_weights.md`.

    python benchmarks/peers/published_weights.py --weights DIR --shared DIR FOLDER [NAME ...]

DIR of --weights has the files of `published_truth.py`, which are read as tensors, arrays or images alone;
architectures are those of `published_networks.py`. --shared has MNIST's test images, data/cifar10_test.npz
those of CIFAR-10. Runs go into FOLDER, which a stopped measurement goes on with. NAME chooses what is run,
and the page shows all that FOLDER holds. `reports/outside` counts the page's rows.
"""

import argparse
import hashlib
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from benchmarks.bench.table import pipes
from benchmarks.errors.coverage import write
from benchmarks.errors.zoo_judged import gradient_evaluations
from benchmarks.peers.published_networks import binarised, digits
from benchmarks.peers.published_truth import (
    CLAIMS,
    EXAMPLES,
    FEWER,
    FILES,
    IMAGES,
    REPOSITORIES,
    ROWS,
    SLOW,
    Claim,
    Image,
    Network,
)
from benchmarks.smoke import smoke
from robustbench_coded import evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.schema.words import CLEAN, COMBINED

PAGE = Path(__file__).with_suffix(".md")
CIFAR = "data/cifar10_test.npz"
SLIP = 0.005  # in truths, of figures that their papers round or count on other images


@dataclass(frozen=True)
class Row:
    """A network's verdict.

    Attributes:
        clean, least, estimate, most: accuracies, the last three with the 95% interval.
        seconds: of one processor. gradients: gradient evaluations per image, of all attacks.
    """

    network: str
    verdict: str
    images: int
    clean: float
    least: float
    estimate: float
    most: float
    seconds: float
    gradients: float = 0

    @property
    def figure(self) -> str:
        return f"{100 * self.estimate:.1f}% ({100 * self.least:.1f} to {100 * self.most:.1f})"


@dataclass(frozen=True)
class Answer:
    """The outcome of an image: broken at its least radius, and one pixel value below it (None: not run)."""

    image: str
    at: bool
    below: bool | None
    seconds: float


def test_images(data: str, shared: Path) -> tuple[Tensor, Tensor]:
    """The first test images."""
    if data == "mnist":
        x, y = digits(shared / "data" / "mnist")
    else:
        arrays = np.load(CIFAR, allow_pickle=False)
        x = torch.from_numpy(arrays["x"][:EXAMPLES]).permute(0, 3, 1, 2) / 255
        y = torch.from_numpy(arrays["y"]).long()
    return x[:EXAMPLES], y[:EXAMPLES]


def run(model: nn.Module, x: Tensor, y: Tensor, out: Path, **options: Any) -> tuple[Any, float]:
    """The plain command's run, and seconds of one processor."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    evaluated = evaluate(model, (x, y), out=str(out), listener=Listener(), threads=1, **options)
    return evaluated, resource.getrusage(resource.RUSAGE_SELF).ru_utime - before


def evaluate_network(network: Network, weights: Path, shared: Path, folder: Path) -> Row:
    images = (part[: network.examples] for part in test_images(network.data, shared))
    return evaluate_row(network, weights, folder, *images, norm=network.norm, eps=network.eps)


def evaluate_claim(claim: Claim, weights: Path, shared: Path, folder: Path) -> Row:
    number = SLOW if claim.time else FEWER
    images = (part[:number] for part in test_images(claim.data, shared))
    return evaluate_row(claim, weights, folder, *images, **claim.options)


def evaluate_row(
    row: Network | Claim, weights: Path, folder: Path, x: Tensor, y: Tensor, **options: Any
) -> Row:
    model = row.build(weights / row.file).eval()
    with torch.no_grad():
        clean = float((model(x).argmax(1) == y).float().mean())
    out = folder / row.name.replace(" ", "-")
    evaluated, seconds = run(model, x, y, out, until="settled", **options)
    verdict = evaluated.judgements[0].verdict
    figure = verdict.accuracy
    accuracies, summary = (figure.low, figure.estimate, figure.high), evaluated.summary
    spent = gradient_evaluations(summary[~summary["attack"].isin((CLEAN, *COMBINED))])
    return Row(row.name, verdict.name, len(x), clean, *accuracies, seconds, spent)


def evaluate_image(image: Image, weights: Path, shared: Path, folder: Path) -> Answer:
    """Evaluates an image at its least radius, and in linf one pixel value below it, by the plain command."""
    root = weights / "bnn-verification"
    model = binarised(root / f"{image.model}.npz")
    if image.model == "mnist":
        pixels = digits(shared / "data" / "mnist")[0][image.number : image.number + 1]
    else:  # published as pictures alone, transposed
        path = root / "images" / f"bnn_{image.model}_{image.number}_label{image.label}.png"
        pixels = torch.from_numpy(np.array(PIL.Image.open(path)).T.copy())[None, None] / 255
    label = torch.tensor([image.label])
    assert int(model(pixels).argmax()) == image.label, image.name
    radii = {"": image.eps}
    if image.norm == "linf" and image.least > 1:
        radii["-below"] = (image.least - 1) / 255
    broken, total = [], 0.0
    for suffix, eps in radii.items():
        out = folder / f"{image.name}{suffix}"
        evaluated, seconds = run(model, pixels, label, out, norm=image.norm, eps=eps, until="settled")
        accuracy = evaluated.summary["accuracy"][evaluated.summary["eps"].fillna(0) <= eps * 1.001]
        broken.append(bool(accuracy.min() == 0))
        total += seconds
    return Answer(image.name, broken[0], broken[1] if len(broken) > 1 else None, total)


def network_table(folder: Path) -> Iterator[tuple[str, ...]]:
    """Networks that FOLDER holds, with the published figure beside csrobust's."""
    yield ("network", "norm, eps", "images", "published robust accuracy", "by", "clean", "csrobust (95% CI)",
           "verdict", "beside the published", "CPU seconds")  # fmt: skip
    known = {row.name: (f"{row.norm}, {row.eps}", row.low, row.high, row.by) for row in ROWS}
    for name, (budget, low, high, by) in known.items():
        for row in stored_row(folder, name):
            side = "below" if row.most < low - SLIP else "above" if row.least > high + SLIP else "agrees"
            published = f"{100 * low:.1f}%" if low == high else f"{100 * low:.1f} to {100 * high:.1f}%"
            yield (name, budget, str(row.images), published, by, f"{100 * row.clean:.1f}%", row.figure,
                   f"`{row.verdict}`", side, f"{row.seconds:.0f}")  # fmt: skip


def claim_table(folder: Path) -> Iterator[tuple[str, ...]]:
    """Claims that FOLDER holds."""
    yield ("claim", "norm, eps", "images", "claimed", "under", "clean", "csrobust (95% CI)", "verdict",
           "gradient evaluations", "CPU seconds")  # fmt: skip
    for claim in CLAIMS:
        for row in stored_row(folder, claim.name):
            yield (claim.name, claim.budget, str(row.images), f"{claim.claim:.1%}{claim.of}", claim.by,
                   f"{row.clean:.1%}", row.figure, f"`{row.verdict}`", f"{row.gradients:.0f}",
                   f"{row.seconds:.0f}")  # fmt: skip


def stored_row(folder: Path, name: str) -> Iterator[Row]:
    """The row of this name, if FOLDER has it."""
    stored = folder / f"{name.replace(' ', '-')}.json"
    if stored.exists():
        yield Row(**json.loads(stored.read_text()))


def image_table(folder: Path) -> Iterator[tuple[str, ...]]:
    yield (
        "image",
        "norm",
        "least change, proved",
        "broken at it",
        "broken one pixel value below",
        "CPU seconds",
    )
    words = {True: "yes", False: "no", None: ""}
    for image in IMAGES:
        stored = folder / f"{image.name}.json"
        if stored.exists():
            answer = Answer(**json.loads(stored.read_text()))
            unit = " (squared)" if image.norm == "l2" else ""
            yield (f"{image.model} {image.number}", image.norm, f"{image.least}{unit}", words[answer.at],
                   words[answer.below], f"{answer.seconds:.0f}")  # fmt: skip


def file_table() -> Iterator[tuple[str, ...]]:
    yield "file", "repository and commit", "path there", "sha256 begins"
    for name, (path, digest) in FILES.items():
        yield Path(name).name, REPOSITORIES[name.partition("/")[0]], path, digest


def missing(weights: Path) -> Iterator[str]:
    """Files that are not in `weights`, or differ from those that were measured."""
    for name, (path, digest) in FILES.items():
        file = weights / name
        if not (file.exists() and hashlib.sha256(file.read_bytes()).hexdigest().startswith(digest)):
            yield f"{name}: {path} of {REPOSITORIES[name.partition('/')[0]]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/mnist")
    parser.add_argument("--tables", action="store_true", help="Write the page from FOLDER; run nothing.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    if absent := list(missing(options.weights)):
        raise SystemExit("missing in --weights, or changed:\n  " + "\n  ".join(absent))
    options.folder.mkdir(parents=True, exist_ok=True)
    places = options.weights, options.shared, options.folder
    jobs: dict[str, Callable[[], Row | Answer]] = {
        row.name: partial(evaluate_network, row, *places) for row in ROWS
    }
    jobs |= {claim.name: partial(evaluate_claim, claim, *places) for claim in CLAIMS}
    jobs |= {image.name: partial(evaluate_image, image, *places) for image in IMAGES}
    for name in () if options.tables else options.names or jobs:
        stored = options.folder / f"{name.replace(' ', '-')}.json"
        if not stored.exists():
            made = jobs[name]()
            write_text(stored, json.dumps(asdict(made)))
            print(made, flush=True)
    for table, rows in (("networks", network_table), ("claims", claim_table), ("images", image_table)):
        write(table, pipes(list(rows(options.folder))), PAGE)
    write("files", pipes(list(file_table())), PAGE)


if __name__ == "__main__":
    smoke(needs="--weights DIR with the files of published_truth.py")
    main()
