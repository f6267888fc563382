"""Writes the evidence against a refuted claim into the run folder."""

import io
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.defences import inferences, rci
from robustbench_coded.evaluation.execution.target import draws_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run
from robustbench_coded.runs.adversarials import EVERY, PerturbedBatch, read_adversarials
from robustbench_coded.runs.atomic import write_bytes, write_text
from robustbench_coded.schema.words import CLEAN, STRONGEST, VerdictName

FOLDER = "evidence"
# Enough to see the refutation; the run folder holds the rest.
MOST_BATCHES = 8
# More than are ever answered at once. Without a bound, torch 2.6 refuses to export some networks.
MOST_IMAGES = 2**31 - 1


def write_evidence(run: Run, plan: Plan, context: WorkerContext) -> list[str]:
    """Writes a bundle for the first refuted judgement, if there is one; returns sentences for the user."""
    refuted = [j for j in run.judgements if j.verdict.name == VerdictName.CLAIM_REFUTED]
    if not refuted:
        return []
    for judgement in refuted:
        case, folder = _strongest(run, judgement, plan), run.path / FOLDER
        if case is None or not _script_knows(context, case):
            continue
        units = [unit for unit in plan.units if unit.case == case]
        claim = json.dumps(_claim(context, run, judgement, case), indent=1) + "\n"
        write_bytes(folder / "inputs.npz", _inputs(run.path, context, case, units))
        write_bytes(folder / "model.pt2", _exported(context, case))
        write_text(folder / "claim.json", claim)
        shutil.copyfile(Path(__file__).with_name("refute.py"), folder / "refute.py")
        return [f"The claim is refuted; {folder / 'refute.py'} shows it with torch and numpy alone."]
    return ["The claim is refuted; its defence can't be shown without this project: use csrobust verify."]


def _strongest(run: Run, judgement: Judgement, plan: Plan) -> PlannedCase | None:
    """The planned case of the attack that is strongest under the judged threat model.

    An attack that is inherited from the attacker who knows less keeps the threat model it ran under.
    """
    strongest = judgement.case.of_attack(STRONGEST)
    source = next(result.sources[0] for result in run.results if result.case == strongest)
    return next((case for case in plan.cases if case.case == source), None)


def _script_knows(context: WorkerContext, case: PlannedCase) -> bool:
    """Whether refute.py can answer as the defence does: standard inference, or all of the network coded."""
    defence = context.defence(case.subject)
    if isinstance(defence, rci.Coded):
        return [run.coded for run in defence.path.runs] == [True]
    return isinstance(defence, inferences.Standard)


def _claim(context: WorkerContext, run: Run, judgement: Judgement, case: PlannedCase) -> dict[str, Any]:
    result = next(result for result in run.results if result.case == case.case)
    claim = judgement.verdict.claim
    interval = result.interval()
    assert claim is not None and interval is not None  # the judgement is refuted by its outcomes
    return {
        "claim": claim.value,
        "about": f" under {claim.attack}" if claim.attack else "",
        "checkpoint_sha256": context.checkpoint(case.subject.checkpoint).sha256,
        **case.case.as_columns(),
        "deviation": list(context.checkpoint(case.subject.checkpoint).deviation),
        "measured": interval.estimate,
        "interval": [interval.low, interval.high],
    }


def _inputs(path: Path, context: WorkerContext, case: PlannedCase, units: list[Unit]) -> bytes:
    """The first evaluations of the case: clean and perturbed batches, labels, draws and the codec."""
    conditions, batches = context.setup.conditions, context.batches(case.subject)
    defence = context.defence(case.subject)
    clean: list[Tensor] = []
    perturbed, label, scored, draw = [], [], [], []
    for unit in units:
        for evaluation in _evaluations(path, context, case, unit):
            batch = batches[evaluation.batch]
            if len(clean) == MOST_BATCHES or (clean and len(clean[0]) != batch.k):
                break
            x, y = (tensor[0].cpu() for tensor in context.group([batch]))
            after = x.clone()
            after[evaluation.slots] = evaluation.x
            slots = torch.arange(batch.k)
            clean.append(x)
            perturbed.append(after)
            label.append(y)
            scored.append(slots < batch.scored if evaluation.victim == EVERY else slots == evaluation.victim)
            known = range(conditions.draws) if evaluation.known == EVERY else [evaluation.known]
            found = [
                draws_of(defence, batch.k, conditions.seed, [batch.index], "scoring", index)[0]
                for index in (known if case.subject.randomised else [0])
            ]
            draw.append(torch.stack([_permutations(one) for one in found]))
    encoder = decoder = torch.empty(0)
    if isinstance(defence, rci.Coded):
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


def _evaluations(
    path: Path, context: WorkerContext, case: PlannedCase, unit: Unit
) -> Iterator[PerturbedBatch]:
    """The unit's stored perturbed inputs; where the clean inputs refute the claim, these."""
    if case.attack != CLEAN:
        yield from read_adversarials(path / "adversarials" / f"{unit.id}.safetensors")
        return
    batches = context.batches(case.subject)
    for index in (index for group in unit.groups for index in group):
        x = context.group([batches[index]])[0][0].cpu()
        yield PerturbedBatch(batch=index, victim=EVERY, known=EVERY, slots=torch.arange(len(x)), x=x)


def _permutations(draw: Tensor | None) -> Tensor:
    """A draw of RCI as [A, K]; [1, 0] where nothing is permuted."""
    if draw is None:
        return torch.empty(1, 0, dtype=torch.int64)
    return draw if draw.ndim == 2 else draw[None]


def _exported(context: WorkerContext, case: PlannedCase) -> bytes:
    """The checkpoint's model for any number of images, in the form that torch reads by itself."""
    model = context.model(case.subject.checkpoint).cpu()
    channels, height, width = context.data.image_shape
    example = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    images = torch.export.Dim("images", min=1, max=MOST_IMAGES)
    program = torch.export.export(model, (example,), dynamic_shapes=({0: images},))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found")  # shared memory
        torch.export.save(program, buffer)
    return buffer.getvalue()
