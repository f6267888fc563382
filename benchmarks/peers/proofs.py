"""csrobust on images that others proved robust, broke or left open, a row each: writes `proofs.md`.

    python benchmarks/peers/proofs.py --sources DIR FOLDER [NAME ...]

DIR has a folder for each repository of the page, at its commit, `cifar10_test.npz` with CIFAR-10's test
images in their original order, and `mnist` with MNIST's published files. Files are read as tensors, arrays or
text alone; nothing in them is executed. Every network is one run of the default protocol over all its rows.
Runs go into FOLDER, which a stopped measurement goes on with. NAME chooses networks; the page shows all that
FOLDER holds.
"""

import argparse
import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bench.table import pipes
from benchmarks.errors.coverage import write
from benchmarks.errors.zoo_judged import gradient_evaluations
from benchmarks.peers.published_networks import Graph, conv_net, digits, table, tensors, unpacked
from benchmarks.smoke import smoke
from robustbench_coded import Run, attack, evaluate, load_run
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.judge.intervals import TAIL, clopper_pearson
from robustbench_coded.schema.words import CLEAN, COMBINED

PAGE = Path(__file__).with_suffix(".md")
BITS = 12  # of a row's number
OVAL, CORA, SPECS = "GNN_branching", "cora-vnncomp2024-benchmark", "vnncomp2023_benchmarks"
REPOSITORIES = {  # folder of --sources: repository and commit, files that are read
    OVAL: ("oval-group/GNN_branching a18ea1a", ("cifar_exp/*.pkl", "models/cifar_*_kw.pth")),
    SPECS: (
        "ChristopherBrix/vnncomp2023_benchmarks d9e7b2f",
        [f"benchmarks/{name}/{part}" for name in ("traffic_signs_recognition", "vit")
         for part in ("instances.csv", "onnx/*", "vnnlib")],
    ),
    "vnncomp2023_results": (
        "ChristopherBrix/vnncomp2023_results 3084a62", ("*/2023_vit/*.csv", "*/2023_traffic*/*.csv")
    ),
    "vnncomp2025_results": ("VNN-COMP/vnncomp2025_results 7a4d1ff", ("*/2025_vit*/*.csv", "*/2025_cora*")),
    CORA: ("kollerlukas/cora-vnncomp2024-benchmark d8d9e2e", ("onnx/mnist-*",)),
}  # fmt: skip
ROBUST, BROKEN, OPEN = "proved robust", "broken", "open"
OVAL_INPUTS = (0.485, 0.456, 0.406), (0.225,) * 3  # means and deviations
VIT_INPUTS = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CORA_RADIUS = 0.1
EXPLAINED = {  # disagreements, by network and row
    "CORA mnist-trades, mnist-img17": "The published counterexamples are right: in float64 two tools' inputs "
    "are answered wrongly, by 0.2 and 0.8. `mosaic-8` ends 3.4 short of that, `apgd-mt-100` 3.6.",
    **{
        f"traffic signs {row}.00000": "Missed where gradients vanish; the verdict is open. The published "
        f"counterexample of alpha-beta-CROWN is right: in float64 it is answered wrongly, by {lead}."
        for row, lead in {
            "3_30_30, model_30_idx_8258_eps_5": 4,
            "3_48_48, model_48_idx_7040_eps_1": 12,
            "3_48_48, model_48_idx_8258_eps_1": 6,
            "3_64_64, model_64_idx_8258_eps_3": 16,
        }.items()
    },
    "traffic signs 3_64_64, model_64_idx_8258_eps_1.00000": "Its one published counterexample, of NeuralSAT, "
    "is answered rightly in float64, by a lead of 310, and lies 0.5 pixel values from the image. Nobody has "
    "shown that the row is broken.",
}


@dataclass(frozen=True)
class Row:
    """One question that others put: does any input within a radius get another class?

    Attributes:
        name: the source's own. kind: what others established.
        image: [C, H, W] in [0, 1]; None if it can't be tried, for the reason ``why``.
        radius: in linf, in pixels of [0, 1].
        classes: whose logits compete, the right one at ``label``.
    """

    name: str
    kind: str
    image: Tensor | None = None
    radius: float = 0
    classes: tuple[int, ...] = ()
    label: int = 0
    why: str = ""


@dataclass
class Network:
    """A network of a source with its rows; ``clipped`` if perturbed pixels stay in [0, 1]."""

    source: str
    name: str
    network: nn.Module
    rows: list[Row] = field(default_factory=list)
    clipped: bool = True

    @property
    def tried(self) -> list[Row]:
        return [row for row in self.rows if row.image is not None]


class Scaled(nn.Module):
    """Pixels [B, C, H, W] in [0, 1], normalised and in the order in which a network takes them."""

    def __init__(self, network: nn.Module, inputs: tuple[Sequence[float], ...], order: str = "") -> None:
        super().__init__()
        self.network, self.order = network, order
        mean, deviation = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in inputs)
        self.mean, self.factor = nn.Buffer(mean.float()), nn.Buffer((1 / deviation).float())

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) * self.factor
        return self.network({"flat": x.flatten(1), "last": x.permute(0, 2, 3, 1)}.get(self.order, x))


class Questions(nn.Module):
    """All rows of a network as one classifier with one radius, ``eps``.

    An image is followed by a line of pixels that hold its row's number in binary, which no perturbation
    within ``eps`` can change. What was added to the image is multiplied by the row's radius over ``eps``.
    """

    def __init__(self, of: Network) -> None:
        super().__init__()
        self.network, self.clipped = of.network, of.clipped
        images, radii = zip(*((row.image, row.radius) for row in of.tried), strict=True)
        radius, least = torch.tensor(radii, dtype=torch.float64).view(-1, 1, 1, 1), min(radii)
        self.eps = least if of.clipped else least / (1 + 2 * least)  # nothing is cut off at 0 or 1
        self.image = nn.Buffer(torch.stack(images))
        scaled = (0.5 + (self.image.double() - 0.5) * self.eps / radius).float()
        self.start = nn.Buffer(torch.where(radius == self.eps, self.image, scaled))
        self.factor = nn.Buffer((radius / self.eps).float())
        self.classes = nn.Buffer(torch.tensor([row.classes for row in of.tried]))
        self.y = torch.tensor([row.label for row in of.tried])

    def inputs(self) -> Tensor:
        """Images [n, C, H + 1, W]."""
        line = torch.zeros(*self.start.shape[:2], 1, self.start.shape[3])
        line[:, 0, 0, :BITS] = (torch.arange(len(self.start))[:, None] >> torch.arange(BITS) & 1).float()
        return torch.cat([self.start, line], 2)

    def forward(self, x: Tensor) -> Tensor:
        number = ((x[:, 0, -1, :BITS].detach() + 0.5).long() << torch.arange(BITS)).sum(1) % len(self.image)
        return self.answer(number, (x[:, :, :-1] - self.start[number]) * self.factor[number])

    def answer(self, number: Tensor, change: Tensor) -> Tensor:
        x = self.image[number] + change
        return self.network(x.clamp(0, 1) if self.clipped else x).gather(1, self.classes[number])

    @torch.no_grad()
    def exact_lead(self, number: int, x: Tensor, radius: float) -> float:
        """The lead of the right class at a perturbed input [1, C, H + 1, W], in float64, in the radius."""
        change = (x[:, :, :-1].double() - self.start[number].double()) * radius / self.eps
        logits = self.double().answer(torch.tensor([number]), change.clamp(-radius, radius))[0]
        self.float()
        label = int(self.y[number])
        return float(logits[label] - torch.cat([logits[:label], logits[label + 1 :]]).max())


# Sources.


def oval(root: Path) -> Iterator[Network]:
    """Proofs against one other class. The balls are those of normalised pixels and leave [0, 1]."""
    arrays = np.load(root / "cifar10_test.npz", allow_pickle=False)
    pixels, labels = torch.from_numpy(arrays["x"]).permute(0, 3, 1, 2) / 255, arrays["y"]
    for name in ("base", "wide", "deep"):
        inner = conv_net(tensors(root / OVAL / f"models/cifar_{name}_kw.pth")["state_dict"][0])  # type: ignore[arg-type]  # nested
        made = Network("oval", f"oval {name}", Scaled(inner, OVAL_INPUTS), clipped=False)
        for path in sorted((root / OVAL / "cifar_exp").glob(f"{name}*.pkl")):
            columns = table(path)
            said = [column for key, column in columns.items() if "SAT" in key]
            keys = columns["Idx"], columns["prop"], columns["Eps"]
            for i, (index, other, eps, *found) in enumerate(zip(*keys, *said, strict=True)):
                words, label = {str(word) for word in found}, len(made.rows) % 2
                kind = ROBUST if "False" in words else BROKEN if "True" in words else OPEN
                classes = int(other), int(labels[int(index)])
                row = f"{path.stem} {i}, image {int(index)}, against {int(other)}"
                radius, classes = float(eps) * OVAL_INPUTS[1][0], classes if label else classes[::-1]
                made.rows.append(Row(row, kind, pixels[int(index)], radius, classes, label))
        yield made


def answers(root: Path, folder: str) -> dict[tuple[str, str], str]:
    """What tools established of each network and instance of a competition."""
    said: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for path in sorted(root.glob(f"vnncomp*_results/*/20*_{folder}*/results.csv")):
        for _, network, instance, _, word, *_ in csv.reader(path.read_text().splitlines()):
            tools = said[Path(network).name, Path(instance).name]
            tools |= {path.parts[-3]: word} if word in ("sat", "unsat") else {}
    return {key: kind_of(tools) for key, tools in said.items()}


def kind_of(said: dict[str, str]) -> str:
    """In words, from what tools say: ``unsat`` or ``sat``."""
    if len(set(said.values())) != 1:
        return "disputed" if said else OPEN
    if "sat" in said.values():
        return BROKEN
    return ROBUST + (f", by {next(iter(said))} alone" if len(said) == 1 else ", by several tools")


def instances(root: Path, source: str, folder: str, inputs: Any, order: str = "") -> Iterator[Network]:
    """Networks and rows of a benchmark of VNN-COMP 2023."""
    home, known, made = root / SPECS / "benchmarks" / folder, answers(root, folder), {}
    for line in csv.reader((home / "instances.csv").read_text().splitlines()):
        network, instance = (Path(part).name for part in line[:2])
        if network not in made:
            name = f"{source} {re.sub(r'_QConv.*|.onnx', '', network)}"
            made[network] = Network(source, name, Scaled(Graph(home / "onnx" / network), inputs, order))
        row = specified(unpacked(home / "vnnlib" / instance).decode(), inputs, order)
        kind = known.get((network, instance), OPEN)
        made[network].rows.append(Row(Path(instance).stem, kind, *row))
    yield from made.values()


def specified(text: str, inputs: Any, order: str) -> tuple[Tensor, float, tuple[int, ...], int]:
    """Image, radius, classes and label of a VNN-LIB file: a ball within [0, 1], of pixels in 256 steps."""
    (label,) = set(re.findall(r"\(>= Y_\d+ Y_(\d+)\)", text))
    ends = []
    for sign in (">=", "<="):
        values = [float(v) for v in re.findall(rf"\(assert \({sign} X_\d+\s+(\S+?)\)\)", text)]
        side = round((len(values) / 3) ** 0.5)
        end = torch.tensor(values).double().view((side, side, 3) if order == "last" else (3, side, side))
        mean, deviation = (torch.tensor(v).double().view(-1, 1, 1) for v in inputs)
        ends.append((end.permute(2, 0, 1) if order == "last" else end) * deviation + mean)
    low, high = ends
    radius = round(float((high - low).max()) / 2 * 2550) / 2550
    image = torch.where(low > 1e-6, low + radius, high - radius)
    exact = (image * 255).round() / 255
    assert float((image - exact).abs().max()) < 1e-4, "pixels are not of 256 steps"
    classes = 1 + max(int(c) for c in re.findall(r"Y_(\d+)", text))
    return exact.float(), radius, tuple(range(classes)), int(label)


def cora(root: Path) -> Iterator[Network]:
    """Each competition drew its images anew: an image is the one beside a published counterexample."""
    pixels, labels = digits(root / "mnist")
    turned, images = pixels.transpose(2, 3), {}  # the networks read columns
    for path in sorted(root.glob("vnncomp2025_results/*/2025_cora_2024/mnist-*.counterexample.gz")):
        values = re.findall(r"\(X_\d+\s+(\S+?)\)", unpacked(path).decode())
        if len(values) == 784:
            x = torch.tensor([float(value) for value in values]).view(1, 28, 28)
            far = (turned - x).abs().flatten(1).amax(1)
            if far.min() <= CORA_RADIUS + 1e-4:
                images[path.name.partition("_")[2].partition(".")[0]] = int(far.argmin())
    made: dict[str, Network] = {}
    for (network, instance), kind in sorted(answers(root, "cora_2024").items()):
        name, file = Path(instance).stem, root / CORA / "onnx" / network
        if network.startswith("test"):
            continue  # of the machine
        if network not in made:
            inner = Scaled(Graph(file), ((0.0,), (1.0,)), "flat") if file.exists() else nn.Identity()
            made[network] = Network("CORA", f"CORA {file.stem}", inner)
        if file.exists() and name in images:
            i = images[name]
            row = Row(name, kind, turned[i], CORA_RADIUS, tuple(range(10)), int(labels[i]))
        else:
            row = Row(name, kind, why="image unknown" if file.exists() else "file of the network absent")
        made[network].rows.append(row)
    yield from made.values()


def networks(root: Path) -> Iterator[Network]:
    yield from oval(root)
    yield from cora(root)
    signs = (0.0,) * 3, (1 / 255,) * 3
    yield from instances(root, "traffic signs", "traffic_signs_recognition", signs, "last")
    yield from instances(root, "ViT", "vit", VIT_INPUTS)


# Runs and the page.


def evaluated(of: Network, out: Path) -> Run:
    """The default protocol on all rows that can be tried."""
    model = Questions(of).eval()
    options = {"norm": "linf", "eps": model.eps, "limit": len(of.tried), "threads": 1, "out": str(out)}
    return evaluate(model, (model.inputs(), model.y), listener=Listener(), **options)


def wrong(run: Run, eps: float) -> dict[int, list[str]]:
    """Rows that were answered wrongly, by number, and after which attacks."""
    scored = run.outcomes[(run.outcomes["purpose"] == "scoring") & (run.outcomes["eps"] <= eps * 1.001)]
    by = scored[scored["prediction"] != scored["label"]].groupby("example")["attack"].unique()
    return {int(str(number)): sorted(attacks) for number, attacks in by.items()}


def least_lead(of: Network, number: int, attacks: Sequence[str]) -> float:
    """The least lead in float64 that these attacks, run on a row alone, reach within its ball."""
    model, radius = Questions(of).eval(), of.tried[number].radius
    x, y = model.inputs()[number : number + 1], model.y[number : number + 1]
    named = [name for name in attacks if re.search(r"\d$", name) and ":" not in name]
    reached = [x, *(attack(model, x, y, name, model.eps, seed=0) for name in named)]
    return min(model.exact_lead(number, perturbed, radius) for perturbed in reached)


def tables(of: Sequence[Network], folder: Path) -> dict[str, str]:
    """Markdown: rows by source and kind, runs, and every disagreement."""
    tally: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    head = (
        "network",
        "rows",
        "protocol",
        "verdict",
        "robust accuracy (95% CI)",
        "gradient evaluations per row",
    )
    runs, disagreements = [head], []
    for one in of:
        out = folder / one.name.replace(" ", "-")
        run = load_run(out) if (out / "run.json").exists() else None
        for row in one.rows:
            why = row.why or ("" if run else "not run")
            tally[one.source, row.kind].update(["rows", f"not tried: {why}" if why else "tried"])
        if run is None:
            continue
        broken = wrong(run, Questions(one).eps)
        for number, row in enumerate(one.tried):
            attacks = broken.get(number, ())
            word = "wrong" if CLEAN in attacks else "broken" if attacks else "stands"
            tally[one.source, row.kind].update([word])
            if (word == "stands") == (row.kind == BROKEN) and row.kind != OPEN:
                lead = f"; least lead in float64 {least_lead(one, number, attacks):.2g}" if attacks else ""
                name = f"{one.name}, {row.name}"
                why = EXPLAINED.get(name, "Not explained.")
                disagreements.append(f"- {name}: {row.kind}, {word} here{lead}. {why}")
        verdict, summary = run.judgements[0].verdict, run.summary
        left = verdict.accuracy
        figure = f"{left.estimate:.1%} ({left.low:.1%} to {left.high:.1%})" if left else ""
        own = summary[~summary["attack"].isin((CLEAN, *COMBINED))]
        part = "whole" if not run.missing else "to " + own["attack"].iloc[-1]
        runs.append((one.name, str(len(one.tried)), part, f"`{verdict.name}`", figure,
                     f"{gradient_evaluations(own):.0f}"))  # fmt: skip
    names = ("source", "established by others", "rows", "tried", "broken here", "wrong before any attack",
            "stand", "broken of those tried (95% CI)", "not tried")  # fmt: skip
    lines: list[tuple[str, ...]] = [names]
    for (source, kind), n in tally.items():
        share = ""
        if n["tried"]:
            low, high = clopper_pearson(n["broken"] + n["wrong"], n["tried"], TAIL)
            share = f"{(n['broken'] + n['wrong']) / n['tried']:.1%} ({low:.1%} to {high:.1%})"
        cells = (str(n[name]) for name in ("rows", "tried", "broken", "wrong", "stands"))
        rest = "; ".join(f"{n[why]} {why[11:]}" for why in n if why.startswith("not tried"))
        lines.append((source, kind, *cells, share, rest))
    texts = {"answer": answer(tally), "rows": pipes(lines), "networks": pipes(runs)}
    return texts | {"disagreements": "\n".join(disagreements or ["None."])}


def answer(tally: dict[tuple[str, str], Counter[str]]) -> str:
    """The first line of the page."""
    parts = []
    for kind in (ROBUST, BROKEN, OPEN):
        n = sum((count for (_, of), count in tally.items() if of.startswith(kind)), Counter())
        parts.append(f"{n['broken'] + n['wrong']:,} of {n['tried']:,}")
    return (
        f"csrobust breaks {parts[0]} rows that others proved robust, {parts[1]} that others broke and\n"
        f"{parts[2]} that they left open, of those that it tried."
    )


def files(root: Path) -> Iterator[tuple[str, ...]]:
    """Every file that is read; of a folder the sum of its files by name."""
    yield "repository and commit", "path", "sha256 begins"
    for folder, (repository, patterns) in REPOSITORIES.items():
        for path in (path for pattern in patterns for path in sorted((root / folder).glob(pattern))):
            parts = sorted(path.iterdir()) if path.is_dir() else [path]
            digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]
            yield repository, str(path.relative_to(root / folder)) + "/" * path.is_dir(), digest


def main() -> None:
    smoke(needs="--sources DIR with the files that the page lists")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--tables", action="store_true", help="Write the page from FOLDER; run nothing.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    known = list(networks(options.sources))
    for one in () if options.tables else known:
        out = options.folder / one.name.replace(" ", "-")
        if one.tried and one.name in (options.names or [one.name]):
            print(f"{one.name}: {evaluated(one, out)}", flush=True)
    for name, text in tables(known, options.folder).items():
        write(name, text, PAGE)
    write("files", pipes(list(files(options.sources))), PAGE)


if __name__ == "__main__":
    main()
