"""run.json: what may not change within a run, what was planned, and on what it ran."""

import datetime
import platform
import subprocess
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from robustbench_coded import __version__
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.plan import NULLS, Plan, Row, stopped
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow", "safetensors", "scikit-learn")
# What may not change within a run folder, and the option that says it.
IDENTITY = {
    "data": "--data",
    "limit": "--limit",
    "seed": "--seed",
    "last_batch": "--last-batch",
    "data_sha256": "--data",
}


def new_manifest(config: EvalConfig, prepared: PreparedEvaluation, plan: Plan) -> dict[str, Any]:
    """The manifest of this evaluation alone."""
    units: dict[Row, list[dict[str, Any]]] = {row: [] for row in plan.rows}
    for unit in plan.units:
        units[unit.row].append({"id": unit.id, "replicate": unit.replicate})
    return {
        "identity": prepared.identity,
        "data": prepared.data_facts,
        "checkpoints": [c.facts for c in prepared.setup.checkpoints],
        "rows": [_row_data(config, prepared, row, units[row]) for row in plan.rows],
        "probes": prepared.probes,
        "matched": [
            asdict(match) | {"defence": parse_defence(match.spec).label} for match in prepared.matched
        ],
        "notes": list(plan.notes),
        "invocations": [
            {
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "command": list(config.command),
                "options": config.as_data(),
                "resolved": prepared.resolved,
                "versions": _versions(),
                "git": _git(),
                "machine": _machine(prepared.setup.device),
            }
        ],
        "finished": False,
    }


def checked_against(old: dict[str, Any], new: dict[str, Any], path: Path) -> None:
    """Refuses to go on in a folder that was made with something else.

    Raises:
        InputError: other data, limit, seed or last-batch rule, or other weights under a known name.
    """
    for key, option in IDENTITY.items():
        before, now = old["identity"].get(key), new["identity"].get(key)
        if before != now:
            what = f"{option} {before}" if key != "data_sha256" else "other images behind --data"
            given = f"{now}" if key != "data_sha256" else "these"
            raise InputError(
                f"{path} was made with {what}, not {given}; "
                "give another --out, or start anew with --overwrite"
            )
    known = {c["name"]: c["sha256"] for c in old["checkpoints"]}
    for checkpoint in new["checkpoints"]:
        name = checkpoint["name"]
        if known.get(name, checkpoint["sha256"]) != checkpoint["sha256"]:
            raise InputError(
                f"{path} knows other weights under the name {name!r}; "
                "name these otherwise (--ckpt NAME=PATH), or start anew with --overwrite"
            )


def extended(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a folder after another evaluation in it: rows and checkpoints of both."""
    if old is None:
        return new
    rows = {_row_key(row): row for row in old["rows"]}
    rows.update({_row_key(row): row for row in new["rows"]})
    checkpoints = {c["name"]: c for c in old["checkpoints"]}
    checkpoints.update({c["name"]: c for c in new["checkpoints"]})
    return {
        **new,
        "rows": list(rows.values()),
        "checkpoints": list(checkpoints.values()),
        "probes": _newest([*old.get("probes", []), *new["probes"]]),
        "matched": [m for m in old.get("matched", []) if m not in new["matched"]] + new["matched"],
        "notes": list(dict.fromkeys([*old["notes"], *new["notes"]])),
        "invocations": [*old["invocations"], *new["invocations"]],
    }


def _newest(probes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last probe of each defence."""
    names = ["checkpoint", "defence", "k", "n"]
    return list({tuple(p[name] for name in names): p for p in probes}.values())


def planned_units(manifest: dict[str, Any]) -> list[str]:
    """The ids of all units of a run, in the order of its rows."""
    return [unit["id"] for row in manifest["rows"] for unit in row["units"]]


def _row_data(
    config: EvalConfig, prepared: PreparedEvaluation, row: Row, units: list[dict[str, Any]]
) -> dict[str, Any]:
    subject = row.subject
    return {
        "checkpoint": subject.checkpoint,
        "defence": subject.label,
        "spec": subject.spec,
        "k": subject.shown_k,
        "n": subject.n,
        "batch_size": subject.k,
        "threat": str(row.threat),
        "attack": row.attack,
        "norm": row.norm,
        "eps": row.eps,
        "eps_space": row.eps_space,
        "step_size": row.step_size,
        "randomised": subject.randomised,
        "batch_dependent": subject.batch_dependent,
        "has_base": subject.has_base,
        "for_check": row.for_check,
        "examples_planned": prepared.examples_planned(config, row),
        "draws": _draws(config, row),
        "budget": None if row.attack in NULLS else config.budget,
        "stopped": stopped(config, row),
        "units": units,
    }


def _draws(config: EvalConfig, row: Row) -> int:
    if not row.subject.randomised:
        return 1
    return min(config.aware_attacks, config.draws) if row.threat.randomness == "known" else config.draws


def _row_key(row: dict[str, Any]) -> tuple:
    names = ["checkpoint", "defence", "k", "n", "threat", "attack", "norm", "eps", "eps_space", "step_size"]
    return tuple(row[name] for name in names)


def _versions() -> dict[str, str]:
    found = {"csrobust": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _git() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that this code runs from, if it does."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(dirty)}


def _machine(device: str) -> dict[str, Any]:
    facts = {"system": platform.system(), "processor": platform.machine(), "device": device}
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return facts
