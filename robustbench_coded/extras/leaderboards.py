"""A run's robust accuracies in the formats that leaderboards read.

``robustbench``     RobustBench's ``model_info`` (arXiv 2010.09670), one JSON file per subject
``every-eval-ever`` the aggregate record of Every Eval Ever, schema 0.3.0, one JSON file per checkpoint

What a run does not know (title, authors, link, venue, extra data) is null or left out; users fill it in.
"""

import json
import re
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import GO_ON, RunData
from robustbench_coded.reports.text.formatting import inference_text, perturbation_text, pixels
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.schema.case import WHOLE_BATCH

AUTOATTACK = ("autoattack:standard", "autoattack:rand")
LONGEST = 100  # characters of a file's name
NORMS = {"linf": "Linf", "l2": "L2"}
SCHEMA = "0.3.0"  # of Every Eval Ever
# Test sets as the Hub names them.
ON_THE_HUB = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "mnist": "ylecun/mnist"}


def robustbench(run: RunData, out: Path) -> list[Path]:
    """Writes ``DATASET/NORM/NAME.json`` for every subject under batch/unknown whose eps is in pixels.

    ``external`` is RobustBench's field for evaluations beyond AutoAttack: here, the ensemble of all attacks.

    Raises:
        InputError: there is none, or outcomes are missing, without which an ensemble is none.
    """
    _require_complete(run)
    files: list[Path] = []
    for judgement in run.judgements:
        perturbation = judgement.perturbation
        in_pixels = perturbation.eps_space == "pixel" and perturbation.norm in NORMS
        if judgement.threat != WHOLE_BATCH or not in_pixels:
            continue
        entry = _model_info(run, judgement)
        named = f"{_subject(judgement)} eps {perturbation.eps:g}"
        parts = (entry["dataset"], NORMS[perturbation.norm], named)
        _write(files, out.joinpath(*map(_file_name, parts)), entry)
    if not files:
        raise InputError(f"{run.path} has no verdict under batch/unknown with eps in pixels")
    return files


def _model_info(run: RunData, judgement: Judgement) -> dict[str, Any]:
    subject, verdict = judgement.subject, judgement.verdict
    facts = run.manifest.checkpoint(subject.checkpoint)
    rows = {row.attack: row for row in run.rows if row.case.setting == judgement.case.setting}
    autoattack = next((rows[name].accuracy for name in AUTOATTACK if name in rows), None)
    ensemble = rows["ensemble"]
    about = f"{ensemble.examples} images"
    if ensemble.interval_kind is not None:
        ends = f"{_percent(ensemble.low)} to {_percent(ensemble.high)} {ensemble.interval_kind.phrase}"
        about = f"95% interval {ends}, {about}"
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
        "autoattack_acc": _percent(autoattack),
        "external": _percent(ensemble.accuracy),
        "footnote": (
            f"{inference_text(subject, with_k=True)}. {_percent(ensemble.accuracy)}% robust accuracy "
            f"({about}) is due to csrobust's ensemble of attacks; its verdict: "
            f"{verdict.name}."
        ),
        "unreliable": None if autoattack is None or ensemble.high is None else autoattack > ensemble.high,
    }


def every_eval_ever(run: RunData, out: Path) -> list[Path]:
    """Writes one aggregate record per checkpoint: a result for each of its judgements.

    ``score`` is the robust accuracy under the ensemble of all attacks, a fraction, with its 95% interval.

    Raises:
        InputError: outcomes are missing.
    """
    _require_complete(run)
    files: list[Path] = []
    judged = [j for j in run.judgements if j.verdict.accuracy is not None]
    for checkpoint in dict.fromkeys(j.subject.checkpoint for j in judged):
        facts = run.manifest.checkpoint(checkpoint)
        last = run.manifest.last  # with the version that evaluated, not the one that exports
        record = {
            "schema_version": SCHEMA,
            "evaluation_id": f"csrobust/{checkpoint}/{last.time}",
            "evaluation_timestamp": last.time,
            "retrieved_timestamp": last.time,
            "source_metadata": {
                "source_type": "evaluation_run",
                "source_organization_name": "unknown",
                "evaluator_relationship": "other",
            },
            "eval_library": {"name": "csrobust", "version": str(last.versions.get("csrobust", "unknown"))},
            "model_info": {
                "name": checkpoint,
                "id": checkpoint,
                "additional_details": {
                    "deployment_type": "self_deployed",
                    "model_availability": "unknown",
                    **({"architecture": facts.arch, "sha256": facts.sha256} if facts else {}),
                },
            },
            "evaluation_results": [_result(run, j) for j in judged if j.subject.checkpoint == checkpoint],
        }
        _write(files, out / _file_name(checkpoint), record)
    return files


def _result(run: RunData, judgement: Judgement) -> dict[str, Any]:
    accuracy, perturbation = judgement.verdict.accuracy, judgement.perturbation
    assert accuracy is not None
    ends = {"lower": accuracy.low, "upper": accuracy.high, "confidence_level": 0.95}
    interval = ends | {"method": accuracy.kind.phrase} if accuracy.kind else None
    data = run.manifest.data.name or "unknown"
    source = {"dataset_name": data, "source_type": "hf_dataset", "hf_repo": ON_THE_HUB.get(data)}
    return {
        "evaluation_name": f"{_subject(judgement)}, {judgement.threat}, {perturbation_text(perturbation)}",
        "source_data": source if data in ON_THE_HUB else {"dataset_name": data, "source_type": "other"},
        "metric_config": {
            "metric_id": "robust_accuracy",
            "metric_name": "Robust accuracy",
            "metric_kind": "accuracy",
            "metric_unit": "proportion",
            "metric_parameters": {
                "norm": perturbation.norm,
                "eps": perturbation.eps,
                "eps_space": perturbation.eps_space,
                "threat_model": str(judgement.threat),
            },
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
        },
        "score_details": {
            "score": accuracy.estimate,
            "details": {"verdict": judgement.verdict.name, "reason": judgement.verdict.reason},
            "uncertainty": {
                **({"confidence_interval": interval} if interval else {}),
                "num_samples": judgement.verdict.examples,
            },
        },
    }


def _require_complete(run: RunData) -> None:
    if run.missing:
        raise InputError(f"{run.path} has no robust accuracy yet: {run.missing}; {GO_ON}")


def _subject(judgement: Judgement) -> str:
    return f"{judgement.subject.checkpoint} {inference_text(judgement.subject, with_k=True)}"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", text).strip("._")[:LONGEST] or "unnamed"


def _write(files: list[Path], path: Path, record: dict[str, Any]) -> None:
    """Writes a file and adds it to ``files``, with a number where one of these has its name, in any case."""
    file, number = path.with_name(f"{path.name}.json"), 1
    while str(file).casefold() in {str(other).casefold() for other in files}:
        number += 1
        file = path.with_name(f"{path.name}-{number}.json")
    write_text(file, f"{json.dumps(record, indent=2)}\n")
    files.append(file)


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{100 * fraction:.2f}"
