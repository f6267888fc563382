"""The study behind docs/finding.md: what RCI gains over its base model, by perturbation budget, and what
other attackers leave and what controls of the same clean accuracy gain.

python docs/finding_study.py          runs every cell in runs/rci, or goes on where it stopped (`make study`)
python docs/finding_study.py table    writes the tables of the page, from reports/rci (`make study-table`)
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.bench.table import pipes
from benchmarks.errors.coverage import placed
from benchmarks.evidence import REPORTS, SHARED, lacking, page_of, read, rows_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "finding.md"
# In the order of what the study most needs to know, with images: more where the gain is near the margin.
# 8/255 of pixels is a floor for every undefended network.
BUDGETS = (
    ("2/255", "pixel", 1280),
    ("8/255", "normalized", 1280),
    ("1/255", "pixel", 640),
    ("4/255", "pixel", 640),
    ("8/255", "pixel", 640),
    ("0.5/255", "pixel", 640),
)
NETWORKS = ("erm", "coded", "mixup")
LARGER = {("erm", "normalized"): 2560}  # not settled with 1,280 images
# In place of the named rows, the first two on base models, too. The last one begins where the third ends.
STEPS = "pgd-100+loss=margin+momentum=1"
FURTHER = "pgd-100+init=transfer-pgd-20+loss=margin+momentum=1"
ATTACKS = ("pgd-10", STEPS, "transfer-pgd-20", FURTHER)
# Beside RCI, on the same images: its code in a fixed order, and noise that costs as much clean accuracy.
RCI = ("rci:N=190",)
CONTROLS = ("coded:N=190", "noise:sigma=0.02")
CONTROLLED = (("erm", "2/255"), ("coded", "2/255"), ("erm", "1/255"))
# Known draws, N = K and single victims, by the default protocol.
ATTACKERS = "erm-attackers-2-255"
# Known draws where the gain is largest.
KNOWN = ("aware-pgd-10", f"aware-{FURTHER}")
KNOWN_AT = (("erm", "1/255"), ("erm", "0.5/255"))
# Networks that others trained, and the architecture of the paper (training it takes two hours of one core).
OTHERS = {
    "erm-12fca82f": "resnet20-12fca82f.th",
    "erm-20-epochs": "resnet20-erm.safetensors",
    "coded-24-epochs": "resnet20-coded.safetensors",
    "mixup-24-epochs": "resnet20-mixup.safetensors",
}
OTHERS_AT = "2/255"
OTHERS_RUN = f"others-{OTHERS_AT.replace('/', '-')}"
PREACT = "erm-preact-resnet18"
PREACT_WEIGHTS = f"runs/trainings/cifar10-{PREACT}.safetensors"
PREACT_AT = ("1/255", "2/255", "8/255")


def main() -> None:
    if sys.argv[1:] == ["table"]:
        PAGE.write_text(with_tables(PAGE.read_text()))
        return
    recipe = f"recipes/cifar10-{PREACT}.toml"
    train = ["csrobust", "train", "--recipe", recipe, "--data-dir", "data", "--out", PREACT_WEIGHTS]
    subprocess.run(train, check=True, cwd=ROOT)
    for name, options in settings():
        if absent := lacking(*options):
            print(f"{name} is left out: {absent}", flush=True)
            continue
        subprocess.run(["csrobust", "plan", *options], check=True, cwd=ROOT)
        subprocess.run(["csrobust", "eval", *options, "--out", f"runs/rci/{name}"], check=True, cwd=ROOT)


def settings() -> Iterator[tuple[str, list[str]]]:
    """Name and options of every run."""
    for network in NETWORKS:
        for eps, space, images in BUDGETS:
            most = LARGER.get((network, space), images)
            defences = RCI + (CONTROLS if (network, eps) in CONTROLLED else ())
            attacks = ATTACKS + (KNOWN if (network, eps) in KNOWN_AT else ())
            yield (
                cell_name(network, space, eps),
                cell_options(own(network), eps, space, most, defences, attacks),
            )
    sizes = [option for n in ("128", "190") for option in ("--rci", f"N={n}")]
    yield ATTACKERS, [*subject(own("erm"), 256), *sizes, "--eps", "2/255", "--threads", "1"]
    others = [f"{name}={SHARED}/{file}" for name, file in OTHERS.items()]
    yield OTHERS_RUN, cell_options(others, OTHERS_AT, "pixel", 640, RCI)
    for eps in PREACT_AT:
        # In bfloat16, as it computes thirteen times as much as a ResNet-20.
        options = cell_options([f"{PREACT}={PREACT_WEIGHTS}"], eps, "pixel", 640, RCI)
        yield cell_name(PREACT, "pixel", eps), [*options, "--attack-precision", "bfloat16"]


def cell_name(network: str, kind: str, eps: str) -> str:
    return f"{network}-{kind}-{eps.replace('/', '-')}"


def own(network: str) -> list[str]:
    return [f"{network}=checkpoints/cifar10-{network}-resnet20.safetensors"]


def cell_options(
    checkpoints: Sequence[str],
    eps: str,
    space: str,
    images: int,
    defences: Sequence[str],
    attacks: Sequence[str] = ATTACKS,
) -> list[str]:
    return [
        *subject(checkpoints, images),
        *(option for defence in defences for option in ("--defence", defence)),
        *("--eps", eps, "--eps-space", space, "--attacks", ",".join(attacks)),
        *("--until", "settled", "--threads", "1"),
    ]


def subject(checkpoints: Sequence[str], images: int) -> list[str]:
    named = (option for checkpoint in checkpoints for option in ("--ckpt", checkpoint))
    return [*named, "--data", "npz:data/cifar10_test.npz", "--limit", str(images)]


def with_tables(text: str) -> str:
    """The page with the tables between its markers written anew."""
    for name, table in (("gains", gains_table()), ("networks", networks_table())):
        text = placed(text, name, pipes(table))
    return text


def gains_table() -> list[Sequence[str]]:
    """What RCI gains, by budget and network, the smallest budget first; then normalised ones."""
    rows = {(row["eps_space"], float(row["eps"]), row["checkpoint"]): row for row in gains()}
    budgets = sorted({key[:2] for key in rows}, key=lambda at: (at[0] != "pixel", at[1]))
    lines: list[Sequence[str]] = [(headed("eps", rows.values()), *NETWORKS)]
    for space, eps in budgets:
        cells = [rows[space, eps, network] for network in NETWORKS]
        name = budget(cells[0]) + ("" if space == "pixel" else ", normalised")
        lines.append((name, *map(figures, cells)))
    return lines


def controlled(network: str, eps: str) -> dict[str, dict[str, str]]:
    """The verdicts on RCI and its controls under attacks on whole batches, by the name of the defence."""
    return {
        NAMES[row["defence"]]: row
        for row in rows_of(f"rci/{cell_name(network, 'pixel', eps)}")
        if row["defence"] in NAMES and row["threat"] == "batch/unknown"
    }


def networks_table() -> list[Sequence[str]]:
    """RCI around networks that others trained, and around the paper's architecture, by budget."""
    rows = list(other_networks())
    found = {(row["checkpoint"], budget(row)): figures(row) for row in rows}
    lines: list[Sequence[str]] = [(headed("network", rows), *PREACT_AT)]
    for network in dict.fromkeys(network for network, _ in found):
        lines.append((network, *(found.get((network, eps), "") for eps in PREACT_AT)))
    return lines


def headed(name: str, rows: Iterable[dict[str, str]]) -> str:
    """The head of a first column, with the protocol of the runs behind the table."""
    head = protocol_head(*(row["run"] for row in rows))
    return f"{name} ({head})" if head else name


def protocol_head(*names: str) -> str:
    """How tables of these runs are headed: by the protocols of those whose outcomes are not in reports/.

    '' if the outcomes of all are there: they are judged again by `make rewrite`.
    """
    versions = {
        row["protocol"]
        for row in read(REPORTS / "evidence.csv")
        if row["run"] in names and not (REPORTS / row["run"] / "run.json").exists()
    }
    return f"protocol {' and '.join(sorted(versions))}" if versions else ""


def other_networks() -> Iterator[dict[str, str]]:
    """The rows of RCI around networks that others trained, and around the paper's architecture."""
    for run in (OTHERS_RUN, *(cell_name(PREACT, "pixel", eps) for eps in PREACT_AT)):
        yield from filter(is_subject, rows_of(f"rci/{run}"))


def figures(row: dict[str, str]) -> str:
    """The gain with its interval, accuracy of base model and defence, and the verdict with its run."""
    mark = "\u2020" if row["gain_interval_kind"] == "evaluated images" else ""
    return (
        f"{interval(row, 'gain', 'gain')}{mark} "
        f"({percent(row['base_accuracy'])} \u2192 {percent(row['accuracy'])}), "
        f"[{row['verdict']}](../reports/{page_of(row['run'])})"
    )


def gains() -> Iterator[dict[str, str]]:
    """The rows of RCI, N = 190, K = 128, with unknown draws, by network and budget."""
    for network in NETWORKS:
        for eps, space, _ in BUDGETS:
            yield from filter(is_subject, rows_of(f"rci/{cell_name(network, space, eps)}"))


def is_subject(row: dict[str, str], threat: str = "batch/unknown") -> bool:
    return all(row[column] == value for column, value in SUBJECT.items()) and row["threat"] == threat


def budget(row: dict[str, str]) -> str:
    return f"{255 * float(row['eps']):g}/255"


NAMES = {"rci": "RCI", "coded": "code in a fixed order", "noise[sigma=0.02]": "Gaussian noise, sigma 0.02"}
SUBJECT = {"defence": "rci", "k": "128", "n": "190"}


def interval(row: dict[str, str], middle: str, ends: str) -> str:
    """An estimate with its interval, alone where it has none."""
    if not row[f"{ends}_low"]:
        return percent(row[middle])
    return f"{percent(row[middle])} [{percent(row[f'{ends}_low'])}, {percent(row[f'{ends}_high'])}]"


def percent(value: str) -> str:
    return f"{100 * float(value):.1f}"


if __name__ == "__main__":
    main()
