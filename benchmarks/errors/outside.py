"""csrobust on images, networks and defences that prior work has decided. Writes reports/outside/report.md.

    python benchmarks/errors/outside.py --shared DIR FOLDER
    python benchmarks/errors/outside.py --tables

Images come from `sandwich.md` and `hard_images.md`, published weights and binarised networks from
`published_weights.md`, defences in their authors' code from `authors_code.md`, which other programs write.
Networks are evaluated here, by the plain command `csrobust` on the PATH, with runs in FOLDER, which a stopped
measurement goes on with; `--tables` takes them from the page. A miss that nobody has explained ends it.
"""

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.smoke import smoke
from robustbench_coded.run import load_run
from robustbench_coded.runs.atomic import write_text

PEERS = Path(__file__).parents[1] / "peers"
PAGE = PEERS.parents[1] / "reports" / "outside" / "report.md"
EXAMPLES = 640
SAYS = ("broken", "stands", "open")  # columns: found broken; certified or no failure found; neither
WORDS = {
    **dict.fromkeys(("broken", "no gain", "claim refuted"), "broken"),
    "no failure found": "stands",
    "not settled": "open",
}
NOTHING = 5.0  # published robust accuracy in percent up to which a network counts as broken
CHANCE = 10.0  # the same of a claim, which attacks alone have measured

# Every miss, by what was judged. A verdict against the truth or a claim, or a weakness that was not found,
# needs one.
EXPLAINED = {
    "ffnnSIGMOID__Point_6x200, image idx_5719": "One verifier alone calls it broken, and on the same network "
    "it calls five images broken that another one proves robust. Five attacks end 1.96 short of it.",
    "mnist_cnn_a_adv": "Three of the 20 images stand after all attacks of `full`. A solver searches all "
    "signs of ReLUs; `crossover` does not.",
    "lwta-wrn34-1": "Its authors report 76.08% under AutoAttack's `rand`, which differentiates a saturated "
    "softmax. With its slope smoothed, PGD finds inputs that are answered wrongly; they are stored with the "
    "run [lwta](../lwta/report.md), and `csrobust verify` scores them again. The claim is wrong.",
    "ResNet-20, pixels": "Its authors claim 69.7% at 8/255. Their code perturbs images that are normalised, "
    "so the radius is about 1.8/255 of pixels. At 8/255 of pixels the claim is wrong.",
    "LWTA-SBP softmax": "Its authors report 83% under PGD-200, which differentiates a saturated softmax. "
    "With its slope smoothed, `relaxed-pgd-20+momentum=1` breaks every image. The claim is wrong.",
    "LeNet5 adversarial l2": "DDN with 1,000 steps leaves half of the images, csrobust 68.0%. Its attacks "
    "disagree (82.0% for the strongest), so the verdict is `not settled`. With what the report advises, "
    "`mosaic-8,crossover-160,square-1000`, 0.0% is left.",
    "ABS, 50 steps, l0": "Its authors report 78% under attacks of 2018. Sparse PGD with the margin (arXiv "
    "2405.05075) leaves 53.1% of 64 images. The claim is wrong.",
    **dict.fromkeys(
        (
            *(f"mnist 7 in {norm}" for norm in ("l0", "l1")),
            "mnist_rot 8 in l1",
            *(f"mnist_rot 16 in {norm}" for norm in ("l1", "l2")),
            *(f"mnist_back_image 32 in {norm}" for norm in ("l1", "l2")),
            *(f"mnist_back_image 73 in {norm}" for norm in ("l0", "l1", "l2", "linf")),
        ),
        "These networks binarise pixels, so no gradient points to the pixels that matter. Solvers prove 20 "
        "least changes; queries and surrogates find nine of them (linf four of five, l0 three, l2 two, l1 "
        "none). Each verdict is `not settled`.",
    ),
}


HEAD = """# Cases that prior work has decided

{answer}

Ground truth comes from verifiers, mixed-integer solvers, AutoAttack, published breaks and authors' papers.
*Stands* is a certified image or `no failure found`. *Open* is an image that is neither broken nor certified,
or `not settled`. *Claimed* is a figure that only its authors report, and *broken* then means refuted. A claim
of at most 10% counts as broken. External weights and data are not redistributed: the linked pages name their
sources. `benchmarks/errors/outside.py` writes this page.

| evaluated | ground truth | number | broken | stands | open |
| --- | --- | ---: | ---: | ---: | ---: |"""
TAIL = """
[sandwich.md](../../benchmarks/peers/sandwich.md) and
[hard_images.md](../../benchmarks/peers/hard_images.md) list every image,
[published_weights.md](../../benchmarks/peers/published_weights.md) published weights and binarised networks,
and [authors_code.md](../../benchmarks/peers/authors_code.md) defences and how they were made to run.
[robust_bench.md](../../benchmarks/peers/robust_bench.md) compares `aa` with AutoAttack on the same images.
"""


@dataclass(frozen=True)
class Network:
    """A checkpoint of others, with what others' attacks leave of it."""

    file: str
    data: str  # "mnist" or "cifar10"
    eps: str
    truth: str  # "robust" or "broken"
    source: str


UNDEFENDED = "trained without any defence; torchattacks' PGD-100 leaves 0% of 128 images"
NETWORKS = (
    Network("mnist-pgd-madry.pth", "mnist", "0.3", "robust", "AutoAttack leaves 85.5%"),
    Network("mnist-fgsm.pth", "mnist", "0.3", "robust", "AutoAttack leaves 79.6%"),
    Network("kw_mnist.pth", "mnist", "0.1", "robust", "AutoAttack leaves 95.3%"),
    Network("resnet20-12fca82f.th", "cifar10", "8/255", "broken", UNDEFENDED),
    Network("resnet32-d509ac18.th", "cifar10", "8/255", "broken", UNDEFENDED),
    Network("resnet20-erm.safetensors", "cifar10", "8/255", "broken", UNDEFENDED),
    Network("resnet20-mixup.safetensors", "cifar10", "8/255", "broken", UNDEFENDED),
    Network("resnet20-coded.safetensors", "cifar10", "8/255", "broken", UNDEFENDED),
    Network("lwta-wrn34-1.pt", "cifar10", "8/255", "robust", "its authors: 76.08% under AutoAttack's `rand`"),
)

DATA = {
    "mnist": ("--data", "mnist", "--data-dir", "{shared}/data", "--normalize", "none"),
    "cifar10": ("--data", "npz:data/cifar10_test.npz"),
}


@dataclass(frozen=True)
class Judged:
    """One thing that others judged and that we judged."""

    group: str
    name: str
    truth: str  # "robust", "broken", "claimed" or "undecided"
    says: str  # one of SAYS
    detail: str = ""
    disagrees: bool = False  # whether the interval misses a published accuracy

    @property
    def missed(self) -> bool:
        """Whether we say the opposite of the truth, or did not find a weakness that is there."""
        return self.disagrees or (self.truth, self.says) in {
            ("robust", "broken"),
            ("claimed", "broken"),
            ("broken", "stands"),
            ("broken", "open"),
        }


def rows(page: str, name: str) -> list[dict[str, str]]:
    """The table of this name on a page of benchmarks/peers, by its headings."""
    text = (PEERS / page).read_text(encoding="utf-8")
    lines = text.partition(f"<!-- {name}: begin -->")[2].partition(f"<!-- {name}: end -->")[0].strip()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def images() -> Iterator[Judged]:
    """Images beside verifiers and solvers."""
    for year, table in (("2021", "instances"), ("2022", "instances 2022")):
        group = f"images, verifiers of VNN-COMP {year}"
        for row in rows("sandwich.md", table):
            truth = row["published"] if row["published"] in ("robust", "broken") else "undecided"
            certified = float(row["bound"]) > 0
            unbroken = row["by"].startswith("none")
            says = "stands" if certified else "open" if unbroken else "broken"
            yield Judged(group, f"{row['network']}, image {row['instance']}", truth, says)
    for row in rows("sandwich.md", "exact"):
        group = "images, mixed-integer programs"
        for truth, says, column in (("robust", "stands", 4), ("broken", "broken", 6)):
            yield from counted(
                group, row["network"], truth, says, int(row[truth]), int(list(row.values())[column])
            )
    for row in (*rows("hard_images.md", "images"), *rows("hard_images.md", "trained")):
        if row["command"] == "full":
            group = "images that gradients fail on"
            total, found = int(row["broken in truth"].split()[0]), int(row["broken"])
            yield from counted(group, row["network"], "broken", "broken", total, found)


def published() -> Iterator[Judged]:
    """Weights with published bounds on robust accuracy, and images with a proved least change."""
    for row in rows("published_weights.md", "networks"):
        low, _, high = row["published robust accuracy"].rstrip("%").partition(" to ")
        most = float(high or low)
        truth = "broken" if most <= NOTHING else "undecided" if float(low) <= NOTHING else "robust"
        word = row["verdict"].strip("`")
        detail = f"{row['norm, eps']}; {row['published robust accuracy']}: {row['by']}; {row['verdict']}, "
        detail += row["csrobust (95% CI)"]
        disagrees = row["beside the published"] != "agrees"
        yield Judged("published weights", row["network"], truth, WORDS[word], detail, disagrees)
    for row in rows("published_weights.md", "claims"):
        word = row["verdict"].strip("`")
        detail = f"{row['norm, eps']}; {row['claimed']} under {row['under']}; "
        detail += f"{row['verdict']}, {row['csrobust (95% CI)']}"
        figure, _, other_model = row["claimed"].partition("% with ")
        truth = "broken" if float(figure.rstrip("%")) <= CHANCE else "claimed"
        truth = "undecided" if other_model else truth
        yield Judged("published claims", row["claim"], truth, WORDS[word], detail)
    group = "images, binarised networks, solvers"
    for row in rows("published_weights.md", "images"):
        name = f"{row['image']} in {row['norm']}"
        yield Judged(group, name, "broken", "broken" if row["broken at it"] == "yes" else "open")
        if below := row["broken one pixel value below"]:
            yield Judged(group, name, "robust", "broken" if below == "yes" else "open")


def counted(group: str, name: str, truth: str, says: str, total: int, found: int) -> Iterator[Judged]:
    """Images of a table that has their number alone: we say so of ``found``, and nothing of the others."""
    yield from [Judged(group, name, truth, says)] * found
    yield from [Judged(group, name, truth, "open")] * (total - found)


def stored_networks() -> Iterator[Judged]:
    """The networks as the page has them."""
    details = dict(re.findall(r"^- (.+?): (.+)\.$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    for one in NETWORKS:
        detail = details[Path(one.file).stem]
        yield Judged("networks", Path(one.file).stem, one.truth, WORDS[detail.split("`")[-2]], detail)


def networks(shared: Path, folder: Path) -> Iterator[Judged]:
    """Networks of others under the plain command; a run of each goes into ``folder``."""
    for one in NETWORKS:
        out = folder / Path(one.file).stem
        if not (out / "report.md").exists():
            checkpoint = ["--ckpt", str(shared / "checkpoints" / one.file)]
            options = ["--eps", one.eps, "--limit", str(EXAMPLES), "--until", "settled", "--quiet"]
            command = ["csrobust", "eval", *checkpoint, *DATA[one.data], *options, "--out", str(out)]
            subprocess.run([part.format(shared=shared) for part in command], check=True)
        (judgement,) = load_run(out).judgements
        left = judgement.verdict.accuracy
        assert left is not None  # the run is finished
        detail = f"eps {one.eps}; {one.source}; `{judgement.verdict.name}`, "
        detail += f"{left.estimate:.1%} [{left.low:.1%}, {left.high:.1%}] left"
        yield Judged("networks", out.name, one.truth, WORDS[judgement.verdict.name], detail)


def defences() -> Iterator[Judged]:
    """Defences in their authors' code; those without a figure in the literature are undecided."""
    for row in rows("authors_code.md", "defences"):
        word = row["word: clean, under attack"].split("`")[1]
        known = not row["literature"].startswith(("none found", "the authors train"))
        truth = "broken" if known else "undecided"
        detail = f"{row['repository and commit']}; {row['literature']}; `{word}`"
        yield Judged("defences in their authors' code", row["defence"], truth, WORDS[word], detail)


def text(judged: list[Judged]) -> Iterator[str]:
    """The report, line by line."""
    missed = Counter(one.name for one in judged if one.missed)
    if unexplained := set(missed) - set(EXPLAINED):
        raise SystemExit(f"misses without an explanation: {', '.join(sorted(unexplained))}")
    yield HEAD.format(answer=answer(judged))
    for group, truth in dict.fromkeys((one.group, one.truth) for one in judged):
        says = Counter(one.says for one in judged if (one.group, one.truth) == (group, truth))
        yield f"| {group} | {truth} | {says.total()} | " + " | ".join(str(says[s]) for s in SAYS) + " |"
    yield ""
    yield "## Misses and refuted claims"
    yield ""
    reasons: dict[str, list[str]] = {}
    for name, number in missed.items():
        reasons.setdefault(EXPLAINED[name], []).append(name + (f" ({number})" if number > 1 else ""))
    yield from (f"- **{', '.join(names)}**: {reason}" for reason, names in reasons.items())
    yield ""
    yield "Robust images stay open where linear bounds, which do not branch, cannot certify them."
    for group in ("networks", "published weights", "published claims", "defences in their authors' code"):
        yield ""
        yield f"## {group.capitalize()}"
        yield ""
        yield from (f"- {one.name}: {one.detail}." for one in judged if one.group == group)
    yield ""
    yield TAIL


def answer(judged: list[Judged]) -> str:
    """The result in two sentences."""
    known = {word: Counter(one.says for one in judged if one.truth == word) for word in ("broken", "robust")}
    sentences = [
        f"Of {says.total()} cases that prior work found {word}, csrobust breaks {says['broken']}, gives "
        f"{says['stands']} a positive result and leaves {says['open']} open."
        for word, says in known.items()
    ]
    return " ".join(sentences)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, help="folder with checkpoints and data/mnist")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--tables", action="store_true", help="Write the page again; evaluate nothing.")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    if options.tables:
        evaluated = list(stored_networks())
    else:
        if not (options.shared and options.folder):
            parser.error("--shared and FOLDER are needed without --tables")
        needed = [options.shared / "checkpoints" / one.file for one in NETWORKS]
        needed += [options.shared / "data" / "mnist", Path("data/cifar10_test.npz")]
        if missing := [str(path) for path in needed if not path.exists()]:
            raise SystemExit(
                f"not found: {', '.join(missing)}; --shared (make: SHARED=DIR) names their folder"
            )
        evaluated = list(networks(options.shared, options.folder))
    judged = [*images(), *evaluated, *published(), *defences()]
    write_text(options.out, "\n".join(text(judged)) + "\n")


if __name__ == "__main__":
    smoke("--tables --out FOLDER/report.md")
    main()
