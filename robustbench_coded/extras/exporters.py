"""A run in the formats of other tools: RobustBench (arXiv 2010.09670), pandas and LaTeX."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import GO_ON, Run
from robustbench_coded.reports.figures.style import COLUMN, Drawing, styled
from robustbench_coded.reports.render.latex import PACKAGE, latex_table
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.reports.text.formatting import inference_text, pixels
from robustbench_coded.reports.write import figures_of
from robustbench_coded.runs.atomic import write_bytes, write_text
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
        InputError: there is none, or outcomes are missing, without which an ensemble is none.
    """
    if run.missing:
        raise InputError(f"{run.path} has no robust accuracy yet: {run.missing}; {GO_ON}")
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
    about = "" if ensemble.interval_kind is None else ensemble.interval_kind.phrase
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
            f"(95% interval {_percent(ensemble.low)} to {_percent(ensemble.high)} {about}, "
            f"{ensemble.examples} examples) is due to csrobust's ensemble of attacks; its verdict: "
            f"{verdict.name}."
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


def latex_tables(run: Run, out: Path, attacks: Sequence[str] = ()) -> list[Path]:
    """A table environment for each perturbation and sweep of batch sizes, which fits a column of two; and the
    figures of the report, as PDF of a column's width where that has room.

    Args:
        attacks: the columns, as `latex_table` has them.

    Raises:
        InputError: a table has no column of that name.
    """
    file = out / "tables.tex"
    write_text(file, "\n".join([PACKAGE, *(latex_table(table, attacks) for table in tables_of(run))]))
    return [file, *(_pdf(figure, out) for figure in figures_of(run, opening_of(run), COLUMN))]


def _pdf(drawing: Drawing, folder: Path) -> Path:
    """Writes NAME.pdf, for a paper. Returns its path."""
    pdf, path = io.BytesIO(), folder / f"{drawing.name}.pdf"
    with styled():
        drawing.figure.savefig(pdf, format="pdf", transparent=True, metadata={"CreationDate": None})
    write_bytes(path, pdf.getvalue(), synced=False)
    return path
