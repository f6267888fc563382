"""What tests read of run folders."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustbench_coded.evaluation.planning.plan import Plan, cases_for
from robustbench_coded.evaluation.session.evaluation import plan_of
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.runs.folder import ADVERSARIALS, content_of
from robustbench_coded.runs.log import NAME, append, read_log
from robustbench_coded.runs.outcomes import SCHEMA, TOGETHER, digest_of, units_in, write_units


def make_plan(prepared: PreparedEvaluation) -> Plan:
    """Every case that may run, on all of its examples."""
    cases, notes = cases_for(prepared.config, prepared.perturbations, prepared.subjects)
    return plan_of(cases, prepared.maker().units, notes)


def lines(run: Path, event: str) -> list[dict[str, Any]]:
    """The lines of a run's log about one kind of event, while it is written, too."""
    whole = (run / NAME).read_text().split("\n")[:-1] if (run / NAME).exists() else []
    return [line for line in map(json.loads, whole) if line["event"] == event]


def steps(run: Path) -> list[Any]:
    """The steps of the last command."""
    found: list[Any] = []
    for line in map(json.loads, (run / NAME).read_text().splitlines()):
        if line["event"] == "began":
            found = []
        elif line["event"] == "step":
            found.append(line["need"])
    return found


def computed(run: Path) -> list[str]:
    """The units that were computed, in this order; one that was computed again is there twice."""
    return [line["unit"] for line in lines(run, "done")]


def outcomes(run: Path) -> pd.DataFrame:
    """All outcomes of a run folder, finished or not."""
    files = [*(run / "outcomes").glob("*.parquet"), *run.glob(TOGETHER)]
    return pd.concat([pd.read_parquet(path).drop(columns="unit") for path in sorted(files)])


def digests(run: Path) -> dict[str, str]:
    """The digest of each unit's rows."""
    files = [*(run / "outcomes").glob("*.parquet"), *run.glob(TOGETHER)]
    return {unit: rows.digest for file in files for unit, rows in units_in(file).items()}


def perturbed(run: Path, unit: str) -> dict[str, Tensor]:
    """The tensors that a finished run has stored of a unit."""
    return {
        name.partition("/")[2]: tensor
        for name, tensor in load_file(run / ADVERSARIALS).items()
        if name.startswith(f"{unit}/")
    }


def replace_perturbed(run: Path, unit: str, tensors: Mapping[str, Tensor]) -> None:
    """Stores other ones in their place."""
    changed = {f"{unit}/{name}": tensor for name, tensor in tensors.items()}
    save_file(load_file(run / ADVERSARIALS) | changed, run / ADVERSARIALS)


def selftests(run: Path) -> dict[str, dict[str, Any]]:
    """Results of self-tests, by their id."""
    return {line["id"]: line["results"] for line in lines(run, "tested")}


def forge(run: Path, chosen: Callable[[pd.DataFrame], Any]) -> None:
    """Makes the chosen outcomes of a finished run right, at a tie, with hashes that fit."""
    done, units = read_log(run).done, {name: unit.rows for name, unit in units_in(run / TOGETHER).items()}
    for name, rows in units.items():
        frame = rows.to_pandas()
        forged = frame.assign(prediction=frame["label"], margin=0.0).where(chosen(frame), frame)
        units[name] = pa.Table.from_pandas(forged, SCHEMA, preserve_index=False)
        content = content_of(digest_of(units[name]), name, done[name].metadata)
        append(run, [msgspec.structs.replace(done[name], content=content)])
    write_units(run / TOGETHER, units)
