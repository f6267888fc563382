"""README's first table again, from nothing, beside the committed one (`make reproduce`).

    python benchmarks/reproduce.py                  lists its runs, minutes of their attacks, what is lacking
    python benchmarks/reproduce.py run [NAME ...]   these, or all, in runs/reproduce, then compares the tables
                                                    cell by cell; a stopped command goes on
    python benchmarks/reproduce.py images           data/cifar10_test.npz, from CIFAR-10 as torchvision has it

The exit code is 1 if a cell differs by more than one image, or a run failed. Rows whose network or images are
not here are left out and named at the end, with what to put where.
"""

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.evidence import REPORTS, ROOT, known_minutes, lacking, options_of, report
from benchmarks.smoke import smoke
from docs.readme_findings import CLAIM_COLUMNS, CLAIMS, Claim, claim_row
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError

RUNS = ROOT / "runs" / "reproduce"
IMAGES = ROOT / "data" / "cifar10_test.npz"
# The committed runs read CIFAR-10's test images in an order of their own, by which csrobust samples and cuts
# batches: the place of each row among the images sorted by their bytes, and `Dataset.sha256` of the result.
ORDER = Path(__file__).with_name("cifar10_order.npy")
SHA256 = "1e47efbe70e02a77224a4a252ba93b5a6054ae094388ee9aec32c6870886ebc3"
NUMBER = re.compile(r"\d+\.\d")
ROUNDING = 0.1  # points between two figures that are printed with one decimal
ENDS = 2  # an exact interval of 95% ends at most 1.9 images further if one image more is classified correctly


def main(command: str = "list", *names: str) -> None:
    if command == "images":
        sys.exit(images_written())
    elif command == "run":
        sys.exit(run([claim for claim in CLAIMS if not names or claim[1] in names]))
    else:
        known = known_minutes(REPORTS)
        for _, name, *_ in CLAIMS:
            print(f"{known.get(name, math.nan):7.1f} minutes  {name}  {lacking(*options_of(REPORTS, name))}")


def run(claims: Sequence[Claim], reports: Path = REPORTS, runs: Path = RUNS) -> int:
    """Evaluates rows of README's first table and compares their cells. Returns the exit code."""
    said: list[str] = []
    equal = far = rows = 0
    for claim in claims:
        name = claim[1]
        if reason := absent(options_of(reports, name)):
            said.append(f"left out: {name}: {reason}")
        elif code := report(reports, name, os.path.relpath(runs / name, ROOT)):
            said.append(f"failed: {name}: csrobust ended with {code}")
            far += 1
        else:
            apart = list(differences(claim, reports, runs))
            said += [text for text, _ in apart]
            rows, far = rows + 1, far + sum(is_far for _, is_far in apart)
            equal += len(CLAIM_COLUMNS) - 1 - len(apart)
    print("", *said, sep="\n")
    print(f"{equal} of {rows * (len(CLAIM_COLUMNS) - 1)} cells in {rows} of {len(claims)} rows are equal")
    print("README's counts over other defences have programs of their own: benchmarks/README.md")
    return 1 if far else 0


def absent(options: Sequence[str]) -> str | None:
    """What a run needs that is not here, in a line. Writes CIFAR-10's images where it finds CIFAR-10."""
    if (reason := lacking(*options)) or IMAGES.name not in " ".join(options) or IMAGES.exists():
        return reason
    return images_written()


def images_written() -> str | None:
    """Writes CIFAR-10's images; in a line why not, where csrobust does not find them."""
    try:
        write_images(load_data("cifar10"), IMAGES)
    except InputError as error:
        return str(error)
    return None


def differences(claim: Claim, reports: Path, runs: Path) -> Iterator[tuple[str, bool]]:
    """Cells that differ, in words, and True if by more than one image."""
    (before, images), (after, _) = claim_row(claim, reports), claim_row(claim, runs)
    for column, old, new in zip(CLAIM_COLUMNS, before, after, strict=True):
        if old != new:
            is_far = further_than_an_image(old, new, images)
            judged = "more than an image" if is_far else "within an image"
            yield f"{judged}: {claim[1]}, {column}: {old} -> {new}", is_far


def further_than_an_image(old: str, new: str, images: int) -> bool:
    """True if the words of two cells differ, or figures by more than one of ``images`` can explain."""
    if NUMBER.sub("", old) != NUMBER.sub("", new):
        return True
    pairs = zip(*(map(float, NUMBER.findall(cell)) for cell in (old, new)), strict=True)
    return any(
        abs(b - a) > (ENDS if place else 1) * 100 / images + ROUNDING for place, (a, b) in enumerate(pairs)
    )


def write_images(data: Dataset, file: Path) -> None:
    """Writes CIFAR-10's 10,000 test images, which ``data`` has in any order, as the committed runs read them.

    Raises:
        InputError: these are other images.
    """
    images, order = data.images[np.arange(len(data))], np.load(ORDER)
    by_bytes = np.array(sorted(range(len(images)), key=lambda row: images[row].tobytes()))
    rows = by_bytes[order] if len(images) == len(order) else by_bytes
    x, y = images[rows], data.labels[rows]
    if replace(data, images=x, labels=y).sha256 != SHA256:
        raise InputError(f"{data.source}: not the 10,000 test images of CIFAR-10")
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, x=x, y=y)
    print(f"{file}: {data.source}, in the order of the committed runs")


if __name__ == "__main__":
    smoke("list")
    main(*sys.argv[1:])
