"""Entries in the format of RobustBench's ``model_info`` (arXiv 2010.09670): one JSON file per subject.

What a run does not know (title, authors, link, venue, extra data) is null, for the user to fill in.
``external`` is RobustBench's field for evaluations beyond AutoAttack: here, the ensemble of all attacks.
"""

import json
import re
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.reports.text.formatting import inference_text, pixels
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.schema.threat_model import WHOLE_BATCH

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
        budget = judgement.budget
        if judgement.threat != WHOLE_BATCH or budget.eps_space != "pixel" or budget.norm not in NORMS:
            continue
        entry = _entry(run, judgement)
        subject = f"{judgement.subject.checkpoint} {inference_text(judgement.subject, with_k=True)}"
        parts = (entry["dataset"], NORMS[budget.norm], f"{subject} eps {budget.eps:g}")
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
    facts = next((c for c in run.manifest.checkpoints if c.name == subject.checkpoint), None)
    rows = {
        row.attack: row
        for row in run.rows
        if row.subject == subject and row.threat == judgement.threat and row.budget == judgement.budget
    }
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
        "eps": pixels(judgement.budget.eps),
        "clean_acc": _percent(ensemble.clean_accuracy),
        "reported": None,
        "autoattack_acc": _percent(theirs),
        "external": _percent(ensemble.accuracy),
        "footnote": (
            f"{inference_text(subject, with_k=True)}. {_percent(ensemble.accuracy)}% robust accuracy "
            f"(95% interval {_percent(ensemble.low)} to {_percent(ensemble.high)}, {ensemble.examples} "
            f"examples) is due to csrobust's ensemble of attacks; its verdict: {verdict.word}."
        ),
        "unreliable": None if theirs is None or ensemble.high is None else theirs > ensemble.high,
    }


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{100 * fraction:.2f}"
