"""Writes the evidence against a refuted claim into the run folder."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.defences.coded import Coded
from robustbench_coded.defences.rci import RCI
from robustbench_coded.defences.standard import Standard
from robustbench_coded.evaluation.execution.target import draws_of
from robustbench_coded.evaluation.execution.worker_context import Workbench
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.plan import Plan, Row, Unit
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run, load_run
from robustbench_coded.runs.adversarials import EVERY, read_adversarials
from robustbench_coded.runs.atomic import write_bytes, write_text

FOLDER = "evidence"
# Enough to see the refutation; the run folder holds the rest.
MOST_BATCHES = 8


def write_evidence(path: Path, config: EvalConfig, plan: Plan, bench: Workbench) -> list[str]:
    """Writes a bundle for the first refuted judgement, if there is one; returns sentences for the user."""
    run = load_run(path)
    refuted = [j for j in run.judgements if j.verdict.word == "claim refuted"]
    if not refuted:
        return []
    for judgement in refuted:
        row = _strongest(run, judgement, plan)
        if row is not None and _kind(bench, row) is not None:
            _write(path, config, plan, bench, run, judgement, row)
            return [
                f"The claim is refuted; {path / FOLDER / 'refute.py'} shows it with torch and numpy alone."
            ]
    return ["The claim is refuted; its defence can't be shown without this project: use csrobust verify."]


def _strongest(run: Run, judgement: Judgement, plan: Plan) -> Row | None:
    """The planned row of the attack that is strongest under the judged threat model."""
    name = next(r.strongest_attack for r in run.rows if r.key == judgement.key)
    for row in plan.rows:
        s, key = row.subject, judgement.key
        mine = (s.checkpoint, s.label, s.shown_k, s.n, str(row.threat), row.norm, row.eps, row.eps_space)
        theirs = (key.checkpoint, key.defence, key.k, key.n, key.threat, key.norm, key.eps, key.eps_space)
        if mine == theirs and row.attack == name:
            return row
    return None


def _kind(bench: Workbench, row: Row) -> str | None:
    """``standard`` or ``coded``; None for a defence that the script does not know."""
    defence = bench.defence(row.subject)
    if isinstance(defence, Standard):
        return "standard"
    if isinstance(defence, Coded | RCI) and [run.coded for run in defence.path.runs] == [True]:
        return "coded"
    return None


def _write(
    path: Path, config: EvalConfig, plan: Plan, bench: Workbench, run: Run, judgement: Judgement, row: Row
) -> None:
    folder = path / FOLDER
    units = [unit for unit in plan.units if unit.row == row and unit.replicate == 0]
    write_bytes(folder / "inputs.npz", _inputs(path, config, bench, row, units))
    write_bytes(folder / "model.pt2", _exported(bench, row))
    write_text(folder / "claim.json", json.dumps(_claim(config, bench, run, judgement, row), indent=1) + "\n")
    shutil.copyfile(Path(__file__).with_name("refute.py"), folder / "refute.py")


def _claim(config: EvalConfig, bench: Workbench, run: Run, judgement: Judgement, row: Row) -> dict[str, Any]:
    line = next(r for r in run.rows if r.key.attack == row.attack and r.key[:5] == judgement.key[:5])
    interval = line.interval()
    assert interval is not None
    return {
        "claim": config.claim,
        "about": f" under {config.claim_attack}" if config.claim_attack else "",
        "checkpoint": row.subject.checkpoint,
        "checkpoint_sha256": bench.checkpoint(row.subject.checkpoint).sha256,
        "defence": row.subject.label,
        "k": row.subject.shown_k,
        "n": row.subject.n,
        "threat": str(row.threat),
        "attack": row.attack,
        "norm": row.norm,
        "eps": row.eps,
        "eps_space": row.eps_space,
        "deviation": list(bench.checkpoint(row.subject.checkpoint).deviation),
        "measured": interval.estimate,
        "interval": [interval.low, interval.high],
    }


def _inputs(path: Path, config: EvalConfig, bench: Workbench, row: Row, units: list[Unit]) -> bytes:
    """The first evaluations of the row: clean and perturbed batches, labels, draws and the codec."""
    batches = bench.batches(row.subject, 0)
    defence = bench.defence(row.subject)
    clean: list[Tensor] = []
    perturbed, label, scored, draw = [], [], [], []
    for unit in units:
        for evaluation in read_adversarials(path / "adversarials" / f"{unit.id}.safetensors"):
            batch = batches[evaluation.batch]
            if len(clean) == MOST_BATCHES or (clean and len(clean[0]) != batch.k):
                break
            x, y = (tensor[0].cpu() for tensor in bench.group([batch]))
            after = x.clone()
            after[evaluation.slots] = evaluation.x
            slots = torch.arange(batch.k)
            clean.append(x)
            perturbed.append(after)
            label.append(y)
            scored.append(slots < batch.scored if evaluation.victim == EVERY else slots == evaluation.victim)
            indices = range(config.draws) if evaluation.known == EVERY else [evaluation.known]
            if not row.subject.randomised:
                indices = [0]
            found = [
                draws_of(defence, batch.k, config.seed, [batch.index], "scoring", index)[0]
                for index in indices
            ]
            draw.append(torch.stack([_permutations(one) for one in found]))
    encoder = decoder = torch.empty(0)
    if isinstance(defence, Coded | RCI):
        codec = defence.path.codec_for(len(clean[0]))
        encoder, decoder = codec.encoder(), codec.decoder()
    arrays: dict[str, Tensor] = {
        "clean": torch.stack(clean),
        "perturbed": torch.stack(perturbed),
        "label": torch.stack(label),
        "scored": torch.stack(scored),
        "draw": torch.stack(draw),
        "encoder": encoder,
        "decoder": decoder,
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: tensor.numpy() for name, tensor in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def _permutations(draw: Tensor | None) -> Tensor:
    """A draw of RCI as [A, K]; [1, 0] where nothing is permuted."""
    if draw is None:
        return torch.empty(1, 0, dtype=torch.int64)
    return draw if draw.ndim == 2 else draw[None]


def _exported(bench: Workbench, row: Row) -> bytes:
    """The checkpoint's model for any number of images, in the form that torch reads by itself."""
    model = bench.model(row.subject.checkpoint).cpu()
    channels, height, width = bench.data.image_shape
    example = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("images", min=1)},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()
