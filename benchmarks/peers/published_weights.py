"""csrobust on weights that other authors published with a proof or a figure: `published_weights.md`.

    python benchmarks/peers/published_weights.py --weights DIR --shared DIR FOLDER [NAME ...]

DIR of --weights has the files of `FILES`, which are read as tensors, arrays or images alone; architectures
are those of `published_networks.py`. --shared has MNIST's test images, data/cifar10_test.npz those of
CIFAR-10. Runs go into FOLDER, which a stopped measurement goes on with. NAME chooses what is run, and the
page shows all that FOLDER holds. `reports/outside` counts the page's rows.
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
from benchmarks.peers.published_networks import (
    binarised,
    lenet5,
    lwta_sbp,
    mmr_universal,
    projected_resnet,
    raghunathan,
    wong_kolter,
)
from benchmarks.peers.sandwich_exact import digits
from benchmarks.peers.synthesis import synthesis
from robustbench_coded import evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.schema.words import CLEAN, COMBINED

PAGE = Path(__file__).with_suffix(".md")
CIFAR = "data/cifar10_test.npz"
EXAMPLES, FEWER = 256, 128  # images; more where the truth is that of the tightest bounds
SLOW, SLOW_BATCH = 64, 16  # images, and images per batch, where one answer takes a tenth of a second
SLIP = 0.005  # in truths, of figures that their papers round or count on other images

# Folder of --weights: repository and commit. File: path there, and the first 16 digits of its sha256.
REPOSITORIES = {
    "MIPVerify_data": "vtjeng/MIPVerify_data 35578a1",
    "mmr-universal": "fra31/mmr-universal 3eba567",
    "advertorch": "BorealisAI/advertorch e063e34",
    "bnn-verification": "msakai/bnn-verification d42a828",
    "advrob-cifar10": "EhanW/advrob-cifar10 4f92f13",
    "lwta-sbp": "antonyalexos/LWTA-SBP-Adversarial-Robustness-DNN 09914c8",
    "AnalysisBySynthesis": "bethgelab/AnalysisBySynthesis daa5a3d",
}
WONG_KOLTER = "MIPVerify_data/master_seed_1_epochs_100.pth"
MMR_MNIST = "mmr-universal/mmr_univ_mnist_gammas_1.0_0.175_lambdas_3.0_12.0.mat"
MMR_CIFAR = "mmr-universal/mmr_univ_cifar10_gammas_6.0_6.0_lmabdas_1.0_6.0.mat"
ADVERSARIAL, PLAIN = "advertorch/mnist_lenet5_advtrained.pt", "advertorch/mnist_lenet5_clntrained.pt"
RESNET, LWTA = "advrob-cifar10/resnet20_pgd.pth", "lwta-sbp/softmax_baseline_CIFAR10_final.pkl"
SYNTHESIS = (
    "7e824714475516ff", "84d13bf9f97194c2", "206904c278bb4255", "144cafe539b528de", "7e2c626b8b52f545",
    "41ed13bfc331965e", "f8b8a6e440ee99e0", "02135d7215afa1a1", "cccd26a1d64ed713", "bb45e988ba1e33cd",
)  # fmt: skip
FILES = {
    WONG_KOLTER: ("weights/mnist/WK17a/linf0.1", "665cce40af979286"),
    "MIPVerify_data/W1.npy": ("weights/mnist/RSL18a/linf0.1", "074e6d3f6e2e9a3d"),
    "MIPVerify_data/W2.npy": ("weights/mnist/RSL18a/linf0.1", "b6a3fc8aca69afd8"),
    "MIPVerify_data/B1.npy": ("weights/mnist/RSL18a/linf0.1", "82e61ae93e229c82"),
    "MIPVerify_data/B2.npy": ("weights/mnist/RSL18a/linf0.1", "c6fcf4acc1f5f4fb"),
    MMR_MNIST: ("models", "0aad3eaeb2acd498"),
    MMR_CIFAR: ("models", "e5ad5bcbeafaa21c"),
    ADVERSARIAL: ("advertorch_examples/trained_models", "b89abfcfe8b33235"),
    PLAIN: ("advertorch_examples/trained_models", "551a11267982991f"),
    RESNET: ("pretrained", "e82e8084fb081b84"),
    LWTA: ("models", "f0174322d2f6e690"),
    **{
        f"AnalysisBySynthesis/ABS_{i}.net": ("exp/VAE_swarm_MSE/nets", digest)
        for i, digest in enumerate(SYNTHESIS)
    },
    "bnn-verification/mnist.npz": ("models", "17ae4f489516b64b"),
    "bnn-verification/mnist_rot.npz": ("models", "ef6e840027f13e27"),
    "bnn-verification/mnist_back_image.npz": ("models", "73a58357000c7cad"),
    "bnn-verification/images/bnn_mnist_rot_8_label1.png": ("images", "d1aa53d7217ae880"),
    "bnn-verification/images/bnn_mnist_rot_16_label5.png": ("images", "94fde8458a63060e"),
    "bnn-verification/images/bnn_mnist_back_image_32_label3.png": ("images", "bad9b353f4052dd4"),
    "bnn-verification/images/bnn_mnist_back_image_73_label5.png": ("images", "7cb16f62d68d0a1b"),
}


@dataclass(frozen=True)
class Network:
    """Published weights, and what is known of their robust accuracy.

    Attributes:
        low, high: bounds on robust accuracy that others established. by: how they did.
    """

    name: str
    file: str
    build: Callable[[Any], nn.Module]
    data: str
    norm: str
    eps: str
    low: float
    high: float
    by: str

    @property
    def examples(self) -> int:
        return EXAMPLES if self.by is MIP else FEWER


@dataclass(frozen=True)
class Claim:
    """Weights with a robust accuracy that their authors claim.

    Attributes:
        claim: the accuracy. by: the attack that it was measured under. of: the model of the claim, where it
            is another one.
        space: the unit of the radius: "pixel", or "normalized" (multiplied by each channel's deviation).
        time: seconds after which the run stops; 0 for no limit. queries: the query budget; None for none.
    """

    name: str
    file: str
    build: Callable[[Any], nn.Module]
    claim: float
    by: str
    space: str = "pixel"
    data: str = "cifar10"
    norm: str = "linf"
    eps: str = "8/255"
    time: float = 0
    queries: int | None = None
    of: str = ""

    @property
    def budget(self) -> str:
        unit = " of normalised pixels" if self.space == "normalized" else ""
        return f"{self.norm}, {self.eps}{unit}"

    @property
    def options(self) -> dict[str, Any]:
        """Of the plain command."""
        named = {"norm": self.norm, "eps": self.eps, "eps_space": self.space, "claim": self.claim}
        slow = {"batch_size": SLOW_BATCH, "time": self.time, "query_budget": self.queries}
        return named | (slow if self.time else {})


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
class Image:
    """An image, and the least norm that changes a binarised network's answer, which solvers proved.

    Attributes:
        least: in the norm's own unit, of pixels from 0 to 255 for all but l0; squared in l2.
    """

    model: str
    number: int
    label: int
    norm: str
    least: int

    @property
    def name(self) -> str:
        return f"{self.model}-{self.number}-{self.norm}"

    @property
    def eps(self) -> float:
        """The radius at which the answer changes, in pixels of [0, 1]; a hair more, for float32."""
        if self.norm == "l0":
            return self.least
        return (self.least**0.5 if self.norm == "l2" else self.least) / 255 * (1 + 1e-5)


@dataclass(frozen=True)
class Answer:
    """The outcome of an image: broken at its least radius, and one pixel value below it (None: not run)."""

    image: str
    at: bool
    below: bool | None
    seconds: float


MIP, MMR = (
    "mixed-integer programs (1711.07356)",
    "attacks, certificates and mixed-integer programs (1905.11213)",
)
FAB = "DDN with 1,000 steps breaks half of the images that it answers rightly there"
UNION_MNIST, UNION_CIFAR = (0.792, 0.9696), (0.354, 0.5304)
ROWS = (
    Network("WK17a", WONG_KOLTER, wong_kolter, "mnist", "linf", "0.1",
            0.9562, 0.9562, MIP),
    Network("RSL18a", "MIPVerify_data/W1.npy", raghunathan, "mnist", "linf", "0.1", 0.6919, 0.8564, MIP),
    *(Network(f"MMR-Universal MNIST {n}", MMR_MNIST, mmr_universal, "mnist", n, e, *UNION_MNIST, MMR)
      for n, e in (("linf", "0.1"), ("l2", "0.3"), ("l1", "1"))),
    *(Network(f"MMR-Universal CIFAR-10 {n}", MMR_CIFAR, mmr_universal, "cifar10", n, e, *UNION_CIFAR, MMR)
      for n, e in (("linf", "2/255"), ("l2", "0.1"), ("l1", "2"))),
    Network("LeNet5 adversarial linf", ADVERSARIAL, lenet5, "mnist", "linf", "0.3", 0, 0.9193,
            "PGD-40 breaks 6.8% of the 98.64% that are answered rightly"),
    Network("LeNet5 adversarial l2", ADVERSARIAL, lenet5, "mnist", "l2", "1.872", 0, 0.4932, FAB),
    Network("LeNet5 plain linf", PLAIN, lenet5, "mnist", "linf", "0.3", 0, 0, "PGD-40 breaks 100%"),
    Network("LeNet5 plain l2", PLAIN, lenet5, "mnist", "l2", "1.388", 0, 0.4945, FAB),
)  # fmt: skip
PGD_20 = "PGD-20 on normalised images (README and train.py)"
CLAIMS = (
    Claim("ResNet-20, pixels", RESNET, projected_resnet, 0.697, PGD_20),
    Claim("ResNet-20, normalised", RESNET, projected_resnet, 0.697, PGD_20, "normalized"),
    Claim("LWTA-SBP softmax", LWTA, lwta_sbp, 0.83, "PGD-200 (results/, U = 2)"),
    *(
        Claim(f"{'binary ' * binary}ABS, {steps} steps, {norm}", "AnalysisBySynthesis/ABS_0.net",
              partial(synthesis, steps=steps, binary=binary), claim, "all attacks of the paper", "pixel",
              "mnist", norm, eps, 420, queries, of)
        for steps, queries, of in ((50, 20, ""), (5, 60, " with 50 steps"))
        for binary, norm, eps, claim in (
            (False, "linf", "0.3", 0.08), (False, "l2", "1.5", 0.80), (False, "l0", "12", 0.78),
            (True, "linf", "0.3", 0.77), (True, "l2", "1.5", 0.39), (True, "l0", "12", 0.82),
        )
    ),
)  # fmt: skip
LEAST = {  # l0, l1, l2 squared, linf; `logs/exact`, "OPTIMUM FOUND" for each
    ("mnist", 7, 9): (4, 5, 5, 1),
    ("mnist_rot", 8, 1): (3, 3, 3, 1),
    ("mnist_rot", 16, 5): (2, 2, 2, 1),
    ("mnist_back_image", 32, 3): (2, 4, 7, 2),
    ("mnist_back_image", 73, 5): (2, 9, 27, 4),
}
IMAGES = [
    Image(*key, norm, least)
    for key, values in LEAST.items()
    for norm, least in zip(("l0", "l1", "l2", "linf"), values, strict=True)
]


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
    main()
