"""Run folders with invented outcomes: what `csrobust eval` writes, without a model."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from robustbench_coded.reports.figures import style
from robustbench_coded.reports.write import write_reports
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.runs.log import Failed
from robustbench_coded.runs.outcomes import SCHEMA
from robustbench_coded.schema.case import KEY_COLUMNS, PERTURBATION_COLUMNS, SUBJECT_COLUMNS

PIXEL_EPS = 8 / 255
# attack, threat -> accuracy of standard inference and of RCI; None where it is not run
ACCURACIES = {
    ("clean", "batch/unknown"): (0.91, 0.88),
    ("random-sign", "batch/unknown"): (0.79, 0.72),
    ("fgsm", "batch/unknown"): (0.15, 0.45),
    ("pgd-10", "batch/unknown"): (0.0, 0.29),
    ("eot10-pgd-20", "batch/unknown"): (0.0, 0.10),
    ("transfer-pgd-20", "batch/unknown"): (None, 0.0),
    ("aware-pgd-10", "batch/known"): (None, 0.22),
    ("transfer-pgd-20", "victim/unknown"): (None, 0.0),
}
SMALL = {
    ("clean", "batch/unknown"): (0.9, 0.8),
    ("random-sign", "batch/unknown"): (0.8, 0.7),
    ("pgd-10", "batch/unknown"): (0.1, 0.5),
}
BROKEN_BASE = {
    ("clean", "batch/unknown"): (0.95, 0.9),
    ("random-sign", "batch/unknown"): (0.9, 0.8),
    ("pgd-10", "batch/unknown"): (0.0, 0.5),
}


@dataclass(frozen=True)
class Subject:
    """What is attacked in an invented run."""

    checkpoint: str
    defence: str = "standard"
    k: int | None = None
    n: int | None = None
    random_batches: int = 0  # in which the perturbed inputs of every attack on whole batches are scored, too

    @property
    def randomised(self) -> bool:
        return self.defence != "standard"

    @property
    def batch_dependent(self) -> bool:
        return self.k is not None


@dataclass(frozen=True)
class Invented:
    """An invented run: subjects x attacks, and what goes wrong with it."""

    subjects: Sequence[Subject] = (Subject("erm"), Subject("erm", "rci", 32, 48))
    accuracies: dict[tuple[str, str], tuple[float | None, float | None]] = field(
        default_factory=lambda: dict(ACCURACIES)
    )
    examples: int = 128
    draws: int = 4
    selection_draws: int = 3
    known_draws: int = 2
    victims: int = 16
    batch_size: int = 32
    classes: int = 10
    eps: float = PIXEL_EPS
    eps_space: str = "pixel"
    data: str = "cifar10"
    data_sha256: str = "d" * 64
    images: str | None = None
    seed: int = 0
    failed: Sequence[tuple[str, str]] = ()  # (attack, defence) whose units fail
    missing: Sequence[tuple[str, str]] = ()  # (attack, defence) whose units never ran
    notes: Sequence[str] = ()
    finished: bool = True
    command: Sequence[str] = ("csrobust", "eval", "--ckpt", "erm=erm.pt", "--rci", "N=48")
    changes: dict[str, Any] = field(default_factory=dict)  # of run.json, last


# What somebody may call a checkpoint or a user defence, to see what a report makes of it.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "a|b\nc\r\nd",
    "\x1b[31mred\x1b[0m\x07",
    "[link](https://example.com) www.example.com `code` **bold** _x_",
    "\\input{/etc/passwd} $x^2$ 50% & # ~",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnp.exe \u65e5\u672c \U0001f600",
    "x" * 300,
)


@pytest.fixture(scope="module", autouse=True)
def no_figures():
    """Here they are tested: runs draw them."""


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory) -> Path:
    """A run whose checkpoints, defences, data, notes and errors have hostile names, with its reports."""
    half = len(HOSTILE) // 2
    subjects = [Subject(HOSTILE[0])]
    subjects += [Subject(a, f"plug-in {b}", 32, 48) for a, b in zip(HOSTILE, HOSTILE[half:], strict=False)]
    path = tmp_path_factory.mktemp("hostile") / "run"
    run = Invented(
        subjects=subjects,
        examples=64,
        data="npz:" + HOSTILE[0],
        notes=HOSTILE,
        failed=[("pgd-10", f"plug-in {HOSTILE[half]}")],
        accuracies={
            key: value for key, value in ACCURACIES.items() if key[0] not in ("fgsm", "eot10-pgd-20")
        },
        command=["csrobust", "eval", *HOSTILE],
    )
    write_invented(path, run)
    write_reports(path)
    return path


@pytest.fixture(scope="session")
def invented_run(tmp_path_factory) -> Path:
    """An invented run of RCI beside its base model, to read and not to change."""
    path = tmp_path_factory.mktemp("invented") / "run"
    write_invented(path, Invented())
    return path


@pytest.fixture
def run(make_run):
    """The invented run, read."""
    return load_run(make_run())


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn from now on, not encoded."""
    figures = []
    monkeypatch.setattr(style, "drawing", lambda figure, *texts: figures.append(figure))
    return figures


@pytest.fixture
def subject() -> type[Subject]:
    """``subject("erm", "rci", 128, 190)``: what an invented run attacks."""
    return Subject


@pytest.fixture
def make_run(tmp_path) -> Callable[..., Path]:
    """``make_run("name", examples=64)`` writes an invented run folder and returns its path."""

    def make(name: str = "run", run: Invented | None = None, **changes: Any) -> Path:
        run = replace(run or Invented(), **changes)
        path = tmp_path / name
        write_invented(path, run)
        return path

    return make


def write_invented(path: Path, run: Invented) -> None:
    """Writes run.json, outcomes, timings and failures of an invented run."""
    with RunFolder(path) as folder:
        rows = [row for subject in run.subjects for row in _rows(run, subject)]
        for index, row in enumerate(rows):
            where = (row["attack"], row["defence"])
            for unit in row["units"]:
                if where in run.failed:
                    folder.log(Failed(unit, "RuntimeError: <b>out of</b> memory", 2))
                    continue
                if where in run.missing:
                    continue
                cost = 0 if row["attack"] in ("clean", "random-sign") else 40 * len(row["attack"]) ** 2
                metadata = {"unit": unit, "forwards": cost, "backwards": cost}
                timing = {"seconds": 2.0}
                folder.commit(unit, _outcomes(run, row, index, scored_again(run, row)), metadata, timing)
        manifest = {**_manifest(run, rows), **run.changes}
        folder.end(manifest, [unit for row in rows for unit in row["units"]])


def _rows(run: Invented, subject: Subject) -> list[dict[str, Any]]:
    rows = []
    for (attack, threat), (standard, random) in run.accuracies.items():
        if (random if subject.randomised else standard) is None:
            continue
        known = threat.endswith("/known")
        step = run.eps / 4 if "pgd" in attack else run.eps if attack == "fgsm" else None
        name = repr((subject, attack, threat, run.seed, run.examples, run.eps))
        rows.append(
            {
                "checkpoint": subject.checkpoint,
                "defence": subject.defence,
                "spec": subject.defence,
                "k": subject.k,
                "n": subject.n,
                "batch_size": subject.k or run.batch_size,
                "threat": threat,
                "attack": attack,
                "norm": "linf",
                "eps": 0.0 if attack == "clean" else run.eps,
                "eps_space": run.eps_space,
                "step_size": step,
                "randomised": subject.randomised,
                "batch_dependent": subject.batch_dependent,
                "has_base": subject.defence != "standard",
                "examples_planned": run.victims if threat.startswith("victim") else run.examples,
                "draws": 1 if not subject.randomised else run.known_draws if known else run.draws,
                "units": [hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:20]],
            }
        )
    return rows


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """A case as run.json has it."""
    inputs, _, randomness = row["threat"].partition("/")
    nested = {
        "subject": {name: row[name] for name in SUBJECT_COLUMNS},
        "threat": {"inputs": inputs, "randomness": randomness},
        "perturbation": {name: row[name] for name in PERTURBATION_COLUMNS},
        "attack": row["attack"],
        "step_size": row["step_size"],
    }
    return {"case": nested, **{name: value for name, value in row.items() if name not in KEY_COLUMNS}}


def scored_again(run: Invented, row: dict[str, Any]) -> int:
    """In how many random batches a row's inputs are scored."""
    (subject,) = [s for s in run.subjects if all(getattr(s, name) == row[name] for name in SUBJECT_COLUMNS)]
    return subject.random_batches if row["threat"] == "batch/unknown" else 0


def _outcomes(run: Invented, row: dict[str, Any], index: int, random_batches: int) -> pa.Table:
    random = np.random.default_rng([run.seed, index])
    example = np.arange(row["examples_planned"])
    label = (example * 7) % run.classes
    blocks = []
    purposes = [("scoring", row["draws"])]
    if row["randomised"] and not row["threat"].endswith("/known"):
        purposes.insert(0, ("selection", run.selection_draws))
    accuracy = run.accuracies[row["attack"], row["threat"]][row["randomised"]]
    for purpose, draws in purposes:
        for draw in range(draws):
            right = random.permutation(len(example)) < round(accuracy * len(example))
            blocks.append(
                pd.DataFrame(
                    {
                        "purpose": purpose,
                        "example": example,
                        "label": label,
                        "batch": example // row["batch_size"],
                        "slot": example % row["batch_size"],
                        "draw": draw,
                        "prediction": np.where(right, label, (label + 1) % run.classes),
                        "margin": np.where(right, 1.0, -1.0).astype("float32"),
                    }
                )
            )
    for number in range(1, random_batches + 1):
        members = random.permutation(len(example))[: row["batch_size"]]
        right = random.random(len(members)) < accuracy
        answers = np.where(right, label[members], (label[members] + 1) % run.classes)
        again = {"purpose": "random", "batch": number, "draw": number, "slot": range(len(members))}
        blocks.append(blocks[0].iloc[members].assign(**again, prediction=answers))
    frame = pd.concat(blocks, ignore_index=True)
    for name in ("checkpoint", "defence", "threat", "attack", "norm", "eps", "eps_space", "step_size"):
        frame[name] = row[name]
    for name in ("k", "n"):
        frame[name] = pd.Series([row[name]] * len(frame), dtype="Int32")
    return pa.Table.from_pandas(frame, SCHEMA, preserve_index=False)


def _manifest(run: Invented, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "identity": {
            "data": run.data,
            "data_sha256": run.data_sha256,
            "limit": run.examples,
            "seed": run.seed,
        },
        "data": {
            "name": run.data,
            "source": "invented",
            "sha256": run.data_sha256,
            "examples": run.examples,
            "available": 10_000,
            "classes": run.classes,
            "image_shape": [3, 32, 32],
            "images": run.images,
        },
        "checkpoints": [
            {
                "name": name,
                "path": f"{name}.safetensors",
                "sha256": hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest(),
                "arch": "resnet20",
                "classes": run.classes,
                "channels": 3,
                "metadata": {},
                "normalisation": {"source": "stored", "name": "imagenet", "mean": [0.485], "std": [0.229]},
            }
            for name in dict.fromkeys(subject.checkpoint for subject in run.subjects)
        ],
        "cases": [_record(row) for row in rows],
        "notes": list(run.notes),
        "invocations": [
            {
                "time": "2026-01-01T00:00:00+00:00",
                "command": list(run.command),
                "options": {"selection_draws": run.selection_draws},
                "resolved": {"threads": 1},
                "versions": {"csrobust": "0.1.0", "torch": "2.9"},
                "git": {"commit": "0123456789abcdef", "dirty": False},
                "machine": {"system": "Linux", "processor": "x86_64", "device": "cpu"},
            }
        ],
        "finished": run.finished,
    }
