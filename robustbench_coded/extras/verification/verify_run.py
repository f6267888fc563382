"""Scores perturbed inputs again, batch by batch, and measures whether they keep to the budget: those that a
run stored, behind its own models and data, and those of `verify_file`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from msgspec import to_builtins
from torch import Tensor

from attacks.oracle import co_batch
from attacks.perturbation_transforms import outside
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution import run_unit, score, worker_context
from robustbench_coded.evaluation.options.config import DrawOptions, EvalConfig
from robustbench_coded.evaluation.planning.batches import Batch
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, sees_queries
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.reports.text.formatting import counted, percent
from robustbench_coded.runs.adversarials import (
    EVERY,
    DamagedAdversarials,
    PerturbedBatch,
    read_adversarials,
)
from robustbench_coded.runs.folder import read_run, stores_inputs
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import CaseRecord, CheckpointFacts, RunManifest
from robustbench_coded.schema.words import CLEAN

# A batch, its perturbed inputs, the slots whose answers count, and what was recorded of them by batch, slot
# and draw; None for inputs of another tool.
Stored = tuple[Batch, PerturbedBatch, Sequence[int], pd.DataFrame | None]


@dataclass(frozen=True)
class VerifiedRow:
    """Perturbed inputs of one attack behind one defence, scored again.

    Attributes:
        checkpoint, defence, k, n, threat, attack, eps: which row.
        inputs: perturbed inputs that were measured; 0 of clean ones.
        furthest: the largest distance from a clean input, as a fraction of what was allowed.
        outside: inputs further away than allowed, or outside [0, 1].
        outcomes: answers that were given; of a run, all of them are compared with the recorded ones.
        differing: answers that differ although their margin is no tie.
        recorded, accuracy: accuracy as recorded, None of a file, and as measured now.
        new_draws: on how many draws that no record is of; 0 where the recorded ones were drawn again.
        turned: answers that differ in float64, where the inputs and the draw are the same; None where code of
            others can't answer in float64, or draws numbers inside.
        problem: why it could not be verified, else empty.
    """

    checkpoint: str
    defence: str
    k: int | None
    n: int | None
    threat: str
    attack: str
    eps: float
    inputs: int = 0
    furthest: float = 0.0
    outside: int = 0
    outcomes: int = 0
    differing: int = 0
    recorded: float | None = None
    accuracy: float | None = None
    new_draws: int = 0
    turned: int | None = None
    problem: str = ""

    @property
    def holds(self) -> bool:
        """True if the row is what the run says."""
        return not self.problem and not self.outside and not self.differing

    def __str__(self) -> str:
        """A line on which row it is, whether it holds, and the figures."""
        sizes = "".join(
            f" {name}={size}" for name, size in (("K", self.k), ("N", self.n)) if size is not None
        )
        row = (
            f"{self.checkpoint} | {self.defence}{sizes} | {self.threat} | eps {self.eps:.4g} | {self.attack}"
        )
        if self.problem:
            return f"{row}: {self.problem}"
        faults = [f"{self.outside} inputs outside eps or box"] if self.outside else []
        if self.differing:
            faults.append(f"{self.differing} of {self.outcomes} answers differ")
        measured = f"{self.inputs} inputs, {self.furthest:.4f} of eps at most"
        measured = measured if self.inputs else "unperturbed"
        if not self.outcomes:
            measured += "; its answers followed queries, which are not stored"
        else:
            recorded = "" if self.recorded is None else f"{percent(self.recorded)}% recorded, "
            turned = f"{self.turned} of {self.outcomes} answers turn in float64"
            turned = "not answered in float64" if self.turned is None else turned
            on = f" on {counted(self.new_draws, 'new draw')}" if self.new_draws else ""
            measured += f"; accuracy {recorded}{percent(self.accuracy)}% now{on}; {turned}"
        equal = self.outcomes and not self.new_draws and self.recorded == self.accuracy
        return f"{row}: {'; '.join(faults) or ('equal' if equal else 'holds')} ({measured})"


def scored_again(
    context: worker_context.WorkerContext,
    case: PlannedCase,
    batches: Iterable[Stored],
    draws: int,
    new: tuple[int, range] | None = None,
) -> VerifiedRow:
    """Scores the perturbed inputs of one case.

    Args:
        batches: what is scored.
        draws: fresh draws that every batch is scored in; one in which the attacker knew the draw in that one.
        new: a seed and draws of it, for batches whose answers are random and whose draw nobody knew. The data
            and the batches are those of the seed of the run.
    """
    tally: dict[str, Any] = Counter(turned=0)
    exact, places_recorded = _in_float64(context, case.subject), 0
    for batch, given, slots, recorded in batches:
        clean, y = context.group([batch])
        x = clean.clone()
        x[0, given.slots.to(x.device)] = given.x.to(x.device)
        if case.attack != CLEAN:
            budget = run_unit.budget_of(context, case, _eps_scale(case, given.victim, clean))
            tally["inputs"] += len(given.slots)
            tally["furthest"] = max(tally["furthest"], float(budget.around(clean).distance(x).max()))
            tally["outside"] += int(outside(x, clean, budget).sum())
        if case.subject.sequence and sees_queries(case.subject, case.made_by):
            continue  # its answers followed queries that are not stored
        indices = list(range(draws)) if given.known == EVERY else [given.known]
        again = (context.setup.options.seed, indices)
        seed, drawn = new if new and case.subject.randomised and given.known == EVERY else again
        answers = partial(
            score.predictions,
            y=y,
            seed=seed,
            batches=[given.batch],
            purpose="scoring",
            draws=list(drawn),
            group_images=context.setup.group_images,
        )
        made_from = None if case.attack == CLEAN else clean
        labels = y[0].cpu().numpy()[list(slots)]
        here = answers(context.defence(case.subject), x, clean=made_from)
        now, margin = (of[:, 0, list(slots)] for of in here)
        tally["outcomes"] += now.size
        tally["accuracy"] += int((now == labels).sum())
        try:
            double = None if made_from is None else made_from.double()
            there = None if exact is None else answers(exact, x.double(), clean=double)[0]
        except Exception:  # code of others that knows float32 alone raises what it likes
            there = exact = None
        tally["turned"] += 0 if there is None else int((there[:, 0, list(slots)] != now).sum())
        if recorded is None:
            tally["recorded"] = None
            continue
        places = [(given.batch, slot, draw) for draw in indices for slot in slots]
        before = recorded.reindex(pd.MultiIndex.from_tuples(places))
        tally["recorded"] += int((before.prediction == before.label).sum())
        places_recorded += len(places)
        relabelled = before.label.to_numpy() != np.tile(labels, len(indices))
        if drawn is not indices:
            tally["new_draws"] = len(drawn)
            tally["differing"] += int(relabelled.sum())
            continue
        tie = np.abs(margin.ravel()) < score.TIE
        same = before.prediction.to_numpy() == now.ravel()
        tally["differing"] += int((~same & ~tie | relabelled).sum())
    tally["accuracy"] /= max(tally["outcomes"], 1)
    tally["recorded"] = None if tally["recorded"] is None else tally["recorded"] / max(places_recorded, 1)
    tally["turned"] = None if exact is None else tally["turned"]
    return VerifiedRow(**_named(case.case), **tally)


def _in_float64(context: worker_context.WorkerContext, subject: ProbedSubject) -> Defence | None:
    """A subject's defence around its network in float64, if it has one that draws nothing inside."""
    inside = context.model(subject.checkpoint)
    if context.samples(inside):  # other numbers than in float32
        return None
    exact = worker_context.WorkerContext(context.setup)
    try:
        exact.preload(context.data, {subject.checkpoint: deepcopy(inside).double()})
        defence = exact.defence(subject)
        return None if isinstance(defence, SamplingModule) else defence
    except Exception:  # as above
        return None


def _named(case: Case) -> dict[str, Any]:
    columns = case.as_columns()
    return {name: columns[name] for name in ("checkpoint", "defence", "k", "n", "threat", "attack", "eps")}


def _eps_scale(case: PlannedCase, victim: int, clean: Tensor) -> Tensor | None:
    """How far each slot may move, as a multiple of eps; None where all may move as far."""
    if not case.threat.one_victim:
        return None
    scale = co_batch(torch.tensor([victim]), clean.shape[1]).eps_scale.to(clean.device)
    return torch.where(torch.isinf(scale), 0.0, scale) if case.threat.inputs == "victim" else scale


def verify_run(
    path: Path,
    *,
    checkpoints: Mapping[str, str] | None = None,
    defences: Sequence[str] = (),
    arch: str | None = None,
    data_dir: str | None = None,
    device: str = "cpu",
    draws: int | None = None,
    seed: int | None = None,
) -> list[VerifiedRow]:
    """Verifies every row of a run whose perturbed inputs are stored (``--save-adversarials``), and those of
    clean inputs, which are the data's.

    Nothing in the folder is executed; of code, only what ``defences`` and ``arch`` name is loaded.

    Args:
        path: the run folder.
        checkpoints: files to take instead of those that the run names, by checkpoint name.
        defences: user defences, ``package.module:build``, that may be loaded.
        arch: architecture code that may be loaded.
        data_dir: where data sets are looked for; None: where the run looked.
        device: where to compute.
        draws, seed: new draws for random answers, and their seed; as many as recorded and the seed of the run
            where one of both is None, the recorded draws where both are.

    Raises:
        InputError: not a run folder, nothing to verify, or data or weights are not those of the run.
    """
    manifest = load_manifest(path)
    if not stores_inputs(path):
        raise InputError(f"{path} stores no perturbed inputs; run it again with --save-adversarials")
    context = _context_of(manifest, checkpoints or {}, arch, data_dir, device)
    anew = (
        None if draws is None and seed is None else (manifest.identity.seed if seed is None else seed, draws)
    )
    return [row for record in manifest.cases for row in _verified(context, path, record, defences, anew)]


def _verified(
    context: worker_context.WorkerContext,
    path: Path,
    record: CaseRecord,
    defences: Sequence[str],
    anew: tuple[int | None, int | None] | None,
) -> Iterator[VerifiedRow]:
    """A row for a case in its own batches, and one for its random batches; of victims the former alone."""
    named = _named(record.case)
    if parse_defence(record.spec).kind == "plugin" and record.spec not in defences:
        yield VerifiedRow(**named, problem=f"needs the code {record.spec}; allow it with --defence")
        return
    case, new = _planned(record), None
    if anew is not None:  # behind the recorded ones: of the same seed they are others, too
        new = (anew[0] or 0, range(record.draws, record.draws + (anew[1] or record.draws)))
    try:
        stored = list(_stored(context, path, record, case))
        yield scored_again(context, case, stored, record.draws, new)
        if record.random_batches and not case.threat.one_victim:
            outcomes = read_run(path, record.random_batches)[0]
            row = scored_again(context, case, _in_random_batches(context, case, stored, outcomes), 1)
            yield replace(row, threat=f"{row.threat} in random batches")
    except DamagedAdversarials as error:
        yield VerifiedRow(**named, problem=str(error))


def _stored(
    context: worker_context.WorkerContext, path: Path, record: CaseRecord, case: PlannedCase
) -> Iterator[Stored]:
    """What a run has stored of a case in its own batches.

    Raises:
        DamagedAdversarials: inputs or outcomes can't be read, or some answers' inputs are not there.
    """
    for unit in record.units:
        outcomes, _, _ = read_run(path, [unit])
        if outcomes.empty:
            raise DamagedAdversarials(f"the outcomes of unit {unit} are missing or damaged")
        scoring = outcomes[outcomes.purpose == "scoring"].set_index(["batch", "slot", "draw"]).sort_index()
        if case.attack == CLEAN:
            evaluations = _unperturbed(context, case, dict.fromkeys(scoring.index.get_level_values("batch")))
        else:
            evaluations = read_adversarials(path, unit)
        answers = 0
        for given in evaluations:
            batch = context.batch(case.subject, given.batch)
            slots = batch.scored_slots if given.victim == EVERY else [given.victim]
            answers += len(slots) * (record.draws if given.known == EVERY else 1)
            yield batch, given, slots, scoring
        if answers != len(scoring):
            raise DamagedAdversarials(f"unit {unit} holds the inputs of {answers} of {len(scoring)} answers")


def _unperturbed(
    context: worker_context.WorkerContext, case: PlannedCase, indices: Iterable[int]
) -> list[PerturbedBatch]:
    """These batches of the data, as a run would store them."""
    batches = [context.batch(case.subject, index) for index in indices]
    images = [context.group([batch])[0][0].cpu() for batch in batches]
    return [
        PerturbedBatch(batch.index, EVERY, EVERY, torch.arange(batch.k), x)
        for batch, x in zip(batches, images, strict=True)
    ]


def _in_random_batches(
    context: worker_context.WorkerContext, case: PlannedCase, stored: Sequence[Stored], outcomes: pd.DataFrame
) -> Iterator[Stored]:
    """The same perturbed inputs in the random batches of the run's seed that these outcomes are of.

    Raises:
        DamagedAdversarials: they are of other batches.
    """
    inputs: dict[int, Tensor] = {}
    for batch, given, *_ in stored:
        x = context.group([batch])[0][0].cpu()
        x[given.slots] = given.x
        inputs.update(zip(batch.members, x[: batch.scored], strict=False))
    images, k, planned = list(inputs), case.subject.k, len(context.batches(case.subject))
    ends = np.cumsum([batch.scored for batch, *_ in stored])  # after as many images they may have been scored
    for number in outcomes.draw.unique().tolist():
        part = outcomes[outcomes.draw == number]
        for end in ends:
            batch = run_unit.random_batch(images[:end], k, context.setup.options.seed, number, planned)
            if np.array_equal(context.numbers[np.asarray(batch.members)[part.slot]], part.example):
                break
        else:
            raise DamagedAdversarials(f"random batch {number} is not the one of the run's seed")
        x = torch.stack([inputs[member] for member in batch.members])
        given = PerturbedBatch(batch.index, EVERY, 0, torch.arange(batch.k), x)
        part = part.assign(batch=batch.index, draw=0).set_index(["batch", "slot", "draw"])
        yield batch, given, batch.scored_slots, part


def _context_of(
    manifest: RunManifest,
    checkpoints: Mapping[str, str],
    arch: str | None,
    data_dir: str | None,
    device: str,
) -> worker_context.WorkerContext:
    """The data and models of a run, as run.json has them, and its own draws.

    Raises:
        InputError: data or weights are not there, are other ones, or need code that the user has not named.
    """
    last, identity = manifest.last, manifest.identity
    if identity.data is None or manifest.data.examples is None or last.resolved.group_images is None:
        raise InputError("run.json: it does not say on which data, or in which groups, it was computed")
    names = [facts.name for facts in manifest.checkpoints]
    if unknown := next((name for name in checkpoints if name not in names), None):
        raise InputError(
            f"--ckpt {unknown}={checkpoints[unknown]}: the run has no checkpoint {unknown!r}; "
            f"give --ckpt NAME=PATH for {' or '.join(names)}"
        )
    loaded = tuple(
        worker_context.LoadedCheckpoint(
            name=facts.name,
            path=checkpoints.get(facts.name, facts.path or ""),
            sha256=facts.sha256,
            arch=_trusted_arch(facts, arch),
            network=facts.arch or "",
            classes=facts.classes or 0,
            mean=tuple(facts.normalisation["mean"]),
            deviation=tuple(facts.normalisation["std"]),
            attack_precision="float32",
            facts=to_builtins(facts),
        )
        for facts in manifest.checkpoints
    )
    setup = worker_context.Setup(
        options=EvalConfig(
            seed=identity.seed or 0,
            draws=last.count("draws") or DrawOptions.draws,
            selection_draws=last.count("selection_draws") or DrawOptions.selection_draws,
            data_dir=data_dir or (str(looked) if (looked := last.options.get("data_dir")) else None),
            first=identity.subset is None,
        ),
        data=identity.data,
        examples=manifest.data.examples,
        device=device,
        group_images=last.resolved.group_images,
        threads=torch.get_num_threads(),
        checkpoints=loaded,
    )
    context = worker_context.WorkerContext(setup)
    if context.data.sha256 != identity.data_sha256:
        raise InputError(
            f"--data-dir: the images of {identity.data} here are not those of the run "
            f"({context.data.sha256[:16]}, run {str(identity.data_sha256)[:16]})"
        )
    return context


def _planned(record: CaseRecord) -> PlannedCase:
    subject = ProbedSubject(
        subject=record.case.subject,
        spec=record.spec,
        k=record.batch_size or 1,
        randomised=record.randomised,
        batch_dependent=record.batch_dependent,
        has_base=record.has_base,
        images=1,
        sequence=record.sequence,
    )
    return PlannedCase(record.case, subject)


def _trusted_arch(facts: CheckpointFacts, arch: str | None) -> str | None:
    if facts.arch is None or ":" not in facts.arch:
        return None
    if arch != facts.arch:
        raise InputError(
            f"checkpoint {facts.name} needs the code {facts.arch}; name it with --arch to load it"
        )
    return arch
