"""Figures of docs/board.md and docs/pitfalls.md: each is that of one row of a committed run."""

import csv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JPEG, RELAXED = "published:jpeg", "relaxed-pgd-20+momentum=1"
PURIFICATION, PERSISTENT = "published:diffusion-purification", "published:stateful-detection[state=4x16]"
NOISE, BEHIND_NOISE = "published:heterogeneous-noise", "published:random-noise-defence"
# The page's words around the figure, the run, and the row by its defence, attack, and what else is not usual.
BOARD = [
    ("PGD-100 leaves {} of JPEG", "board-digits", JPEG, "pgd-100", {}),
    ("and {} of anti-adversary", "board-digits", "published:anti-adversary", "pgd-100", {}),
    ("the ensemble {} and", "board-digits", JPEG, "ensemble", {}),
    ("and {} ([digits]", "board-digits", "published:anti-adversary", "ensemble", {}),
    ("transforms**: {} on", "board-cifar10-random-transforms", "published:random-transforms", "ensemble", {}),
    ("**Diffusion purification** retains {},", "board-digits-kept", PURIFICATION, "ensemble", {}),
    ("withstands Square ({})", "board-digits-memory-kept", PERSISTENT, "square-200", {}),
    ("that lie far apart ({},", "board-digits-memory-kept", PERSISTENT, "random-200+apart=0.6", {}),
    ("EOT attacks leave {} ", "board-digits-random-noise", BEHIND_NOISE, "eot10-pgd-20", {}),
    ("PGD-10 leaves {}, the same", "lwta", "standard", "pgd-10", {}),
    ("a relaxed softmax {} ", "lwta", "standard", RELAXED, {}),
]
PITFALLS = [
    ("JPEG: {} under `pgd-100`", "board-digits", JPEG, "pgd-100", {}),
    ("{} under `transfer-pgd-20`", "board-digits", JPEG, "transfer-pgd-20", {}),
    ("RCI: {} under `pgd-10`", "cifar10-resnet20", "rci", "pgd-10", {"n": "190"}),
    ("{} under `pgd-10+loss=margin`", "cifar10-resnet20", "rci", "pgd-10+loss=margin", {"n": "190"}),
    ("{} under `fixed-pgd-10`", "board-digits", "published:random-transforms", "fixed-pgd-10", {}),
    ("`fixed-pgd-10`, {} under `pgd-10`", "board-digits", "published:random-transforms", "pgd-10", {}),
    ("{} in the mean of four draws", "board-digits-kept", PURIFICATION, "ensemble", {"draws": "4"}),
    (
        "{} in every one of them",
        "board-digits-kept",
        PURIFICATION,
        "ensemble",
        {"column": "accuracy_every_draw"},
    ),
    ("{} for single predictions", "board-digits-kept", PURIFICATION, "ensemble", {}),
    (
        "{} for majorities of four",
        "board-digits-kept",
        PURIFICATION,
        "ensemble",
        {"column": "accuracy_majority"},
    ),
    ("noise: {}, with", "board-digits-2026", NOISE, "ensemble", {"checkpoint": "erm"}),
    (
        "a known draw {} ",
        "board-digits-2026",
        NOISE,
        "ensemble",
        {"checkpoint": "erm", "threat": "batch/known"},
    ),
    ("l2: {}, its base", "board-digits-l2", "published:randomised-smoothing", "ensemble", {}),
    ("its base model {} ", "board-digits-l2", "standard", "ensemble", {}),
    (
        "on 256 images: up to {} ",
        "board-digits-random-noise",
        BEHIND_NOISE,
        "ensemble",
        {"column": "ci_high", "accuracy": "0.0", "examples": "256"},
    ),
]


def rows(run, table):
    with (ROOT / "reports" / run / f"{table}.csv").open() as lines:
        return list(csv.DictReader(lines))


def figure(run, defence, attack, more):
    """In percent, of the one row at a perturbation that the run gives verdicts for."""
    judged = {row["eps"] for row in rows(run, "verdicts")}
    wanted = {"threat": "batch/unknown", "defence": defence, "attack": attack, **more}
    column = wanted.pop("column", "accuracy")
    found = [
        row
        for row in rows(run, "summary")
        if row["eps"] in judged and all(row[name] == value for name, value in wanted.items())
    ]
    assert len(found) == 1, f"{len(found)} rows"
    return f"{100 * float(found[0][column]):.1f}"


@pytest.mark.parametrize(
    ("page", "words", "run", "defence", "attack", "more"),
    [("board", *tied) for tied in BOARD] + [("pitfalls", *tied) for tied in PITFALLS],
)
def test_a_figure_is_that_of_its_row(page, words, run, defence, attack, more):
    text = " ".join((ROOT / "docs" / f"{page}.md").read_text().split())
    assert words.format(figure(run, defence, attack, more)) in text
