"""A run in the formats of other tools: RobustBench (arXiv 2010.09670), pandas and LaTeX, Weights & Biases,
MLflow.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run
from robustbench_coded.reports.compare.comparison import compare
from robustbench_coded.reports.render.comparison import comparison_document
from robustbench_coded.reports.text.formatting import inference_text, pixels
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.schema.case import WHOLE_BATCH

# Entries in the format of RobustBench's ``model_info`` (arXiv 2010.09670): one JSON file per subject.
#
# What a run does not know (title, authors, link, venue, extra data) is null, for the user to fill in.
# ``external`` is RobustBench's field for evaluations beyond AutoAttack: here, the ensemble of all attacks.


AUTOATTACK = ("autoattack:standard", "autoattack:rand")
LONGEST = 100  # characters of a file's name
NORMS = {"linf": "Linf", "l2": "L2"}


def model_info(run: Run, out: Path) -> list[Path]:
    """``DATASET/NORM/NAME.json`` for every subject under batch/unknown whose eps is in pixels.

    Raises:
        InputError: there is none.
    """
    files: list[Path] = []
    for judgement in run.judgements:
        perturbation = judgement.perturbation
        if (
            judgement.threat != WHOLE_BATCH
            or perturbation.eps_space != "pixel"
            or perturbation.norm not in NORMS
        ):
            continue
        entry = _entry(run, judgement)
        subject = f"{judgement.subject.checkpoint} {inference_text(judgement.subject, with_k=True)}"
        parts = (entry["dataset"], NORMS[perturbation.norm], f"{subject} eps {perturbation.eps:g}")
        folder, norm, name = (re.sub(r"[^\w.=-]+", "_", part).strip("._")[:LONGEST] for part in parts)
        file = out / folder / norm / f"{name}.json"
        if file in files:
            file = file.with_name(f"{name}-{len(files)}.json")
        write_text(file, json.dumps(entry, indent=2) + "\n")
        files.append(file)
    if not files:
        raise InputError(f"{run.path} has no verdict under batch/unknown with eps in pixels")
    return files


def _entry(run: Run, judgement: Judgement) -> dict[str, Any]:
    subject, verdict = judgement.subject, judgement.verdict
    facts = run.manifest.checkpoint(subject.checkpoint)
    rows = {row.attack: row for row in run.rows if row.case.setting == judgement.case.setting}
    theirs = next((rows[name].accuracy for name in AUTOATTACK if name in rows), None)
    ensemble = rows["ensemble"]
    return {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": None,
        "number_forward_passes": 1 if subject.defence == "standard" else None,
        "dataset": run.manifest.data.name or "unknown",
        "venue": None,
        "architecture": facts.arch if facts is not None else None,
        "eps": pixels(judgement.perturbation.eps),
        "clean_acc": _percent(ensemble.clean_accuracy),
        "reported": None,
        "autoattack_acc": _percent(theirs),
        "external": _percent(ensemble.accuracy),
        "footnote": (
            f"{inference_text(subject, with_k=True)}. {_percent(ensemble.accuracy)}% robust accuracy "
            f"(95% interval {_percent(ensemble.low)} to {_percent(ensemble.high)}, {ensemble.examples} "
            f"examples) is due to csrobust's ensemble of attacks; its verdict: {verdict.name}."
        ),
        "unreliable": None if theirs is None or ensemble.high is None else theirs > ensemble.high,
    }


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{100 * fraction:.2f}"


def parquet_tables(run: Run, out: Path) -> list[Path]:
    """summary, verdicts and all outcomes; the columns of docs/run-folder.md, accuracies as fractions."""
    frames = {"summary": run.summary, "verdicts": run.verdicts, "outcomes": run.outcomes}
    files: list[Path] = []
    for name, frame in frames.items():
        files.append(out / f"{name}.parquet")
        frame.to_parquet(files[-1], index=False)
    return files


def latex_tables(run: Run, out: Path) -> list[Path]:
    """One table environment per perturbation, each subject with its paired difference from standard
    inference.
    """
    file = out / "tables.tex"
    write_text(file, comparison_document(compare([run.path]), "latex"))
    return [file]


# A run in Weights & Biases and MLflow, both without a server: what they log lies in a folder.
#
# Each verdict becomes a group of metrics, named ``CHECKPOINT/DEFENCE/THREAT/BUDGET/COLUMN``; the tables are
# attached whole. `wandb sync` and an MLflow server take the folders as they are.


PROJECT = "csrobust"
MEASURED = ("accuracy", "ci_low", "ci_high", "clean_accuracy", "gain", "gain_low", "gain_high")
TABLES = ("summary", "verdicts")


def log_to_wandb(run: Run, out: Path) -> list[Path]:
    """An offline run of Weights & Biases; `wandb sync` uploads it."""
    wandb = _package("wandb")
    settings = wandb.Settings(silent=True, console="off")
    logged = wandb.init(
        project=PROJECT,
        name=run.name,
        dir=str(out),
        mode="offline",
        config=parameters(run),
        settings=settings,
    )
    logged.summary.update({**metrics(run), **verdicts(run)})
    logged.log({name: wandb.Table(dataframe=_plain(run, name)) for name in TABLES})
    folder = Path(logged.dir).parent
    logged.finish()
    return [folder]


def log_to_mlflow(run: Run, out: Path) -> list[Path]:
    """A run in a file store of MLflow: ``mlflow ui --backend-store-uri DIR`` shows it."""
    mlflow = _package("mlflow")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # no database for a folder that is only read
    store = out / "mlruns"
    mlflow.set_tracking_uri(store.resolve().as_uri())
    mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=run.name), tempfile.TemporaryDirectory() as folder:
        mlflow.log_params(parameters(run))
        mlflow.log_metrics(metrics(run))
        mlflow.set_tags(verdicts(run))
        for name in TABLES:
            file = Path(folder) / f"{name}.csv"
            _plain(run, name).to_csv(file, index=False)
            mlflow.log_artifact(str(file))
    return [store]


def parameters(run: Run) -> dict[str, Any]:
    """What the run was made on: data, number of examples, seed, version, and each checkpoint's hash."""
    manifest = run.manifest
    facts = {
        "data": manifest.data.name,
        "examples": manifest.data.examples,
        "seed": manifest.identity.seed,
        "version": manifest.last.versions.get("csrobust"),
    }
    hashes = {f"checkpoint.{_name(c.name)}": c.sha256 for c in manifest.checkpoints}
    return {name: value for name, value in (facts | hashes).items() if value is not None}


def metrics(run: Run) -> dict[str, float]:
    """Accuracies and gains of every verdict with their intervals, as fractions; missing ones are left out."""
    return {
        f"{group}/{column}": float(row[column])
        for group, row in _verdicts(run)
        for column in MEASURED
        if row[column] is not None and row[column] == row[column]
    }


def verdicts(run: Run) -> dict[str, str]:
    """Every verdict."""
    return {f"{group}/verdict": str(row["verdict"]) for group, row in _verdicts(run)}


def _verdicts(run: Run) -> Iterator[tuple[str, dict[Any, Any]]]:
    met: dict[str, int] = {}
    for row in run.verdicts.astype(object).to_dict("records"):
        sizes = "".join(
            f" {name}={row[name.lower()]}" for name in "KN" if row[name.lower()] == row[name.lower()]
        )
        perturbation = f"{row['norm']} {pixels(row['eps'])} {row['eps_space']}"
        parts = (row["checkpoint"], f"{row['defence']}{sizes}", row["threat"], perturbation)
        group = "/".join(_name(str(part)) for part in parts)
        met[group] = met.get(group, 0) + 1
        yield group if met[group] == 1 else f"{group} {met[group]}", row


def _name(text: str) -> str:
    """A part of a metric's name: letters, digits and the few signs that both tools take."""
    return re.sub(r"[^\w. -]+", "-", text, flags=re.ASCII)[:100]


def _plain(run: Run, name: str) -> Any:
    frame = getattr(run, name)
    return frame.astype({column: "float64" for column in ("k", "n") if column in frame})


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"--to {name} needs the package {name}: pip install 'csrobust[{name}]'") from error
