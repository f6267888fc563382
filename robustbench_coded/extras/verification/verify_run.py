"""Scores a run's stored perturbed inputs again behind its own models and data, rebuilt from run.json,
measures whether they keep to the budget, and lists the differences.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from msgspec import to_builtins
from rich.console import Group
from torch import Tensor

from attacks.objective import co_batch
from attacks.perturbation_transforms import outside
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution import attack_group, score, target, worker_context
from robustbench_coded.evaluation.options.config import DrawOptions, EvalConfig
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, sees_queries
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.reports.render.plain_table import PlainTable
from robustbench_coded.reports.text.formatting import Columns, TextTable, percent
from robustbench_coded.runs.adversarials import EVERY, DamagedAdversarials, PerturbedBatch, read_adversarials
from robustbench_coded.runs.folder import read_run
from robustbench_coded.schema.manifest import CaseRecord, CheckpointFacts, RunManifest
from robustbench_coded.schema.words import CONTROLS


def rebuilt_bench(
    manifest: RunManifest,
    *,
    checkpoints: Mapping[str, str],
    arch: str | None = None,
    data_dir: str | None = None,
    device: str = "cpu",
) -> worker_context.WorkerContext:
    """The workbench of a run.

    Args:
        manifest: the content of run.json, checked.
        checkpoints: files to take instead of those that run.json names, by name.
        arch: the user's own architecture code; a run folder never says by itself which code to load.
        data_dir: where data sets are looked for; None: where the run looked.
        device: where to compute.

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
            data_dir=data_dir or _text(last.options.get("data_dir")),
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


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def rebuilt_row(
    context: worker_context.WorkerContext, planned: CaseRecord, defences: Sequence[str]
) -> PlannedCase | None:
    """A row of run.json; None where it needs code that ``defences`` does not name."""
    spec = planned.spec
    if parse_defence(spec).kind == "plugin" and spec not in defences:
        return None
    subject = ProbedSubject(
        subject=planned.case.subject,
        spec=spec,
        k=planned.batch_size or 1,
        randomised=planned.randomised,
        batch_dependent=planned.batch_dependent,
        has_base=planned.has_base,
        images=1,
        sequence=planned.sequence,
    )
    subject = replace(subject, images=target.images_of(context.defence(subject), subject.k))
    return PlannedCase(planned.case, subject)


def _trusted_arch(facts: CheckpointFacts, arch: str | None) -> str | None:
    if facts.arch is None or ":" not in facts.arch:
        return None
    if arch != facts.arch:
        raise InputError(
            f"checkpoint {facts.name} needs the code {facts.arch}; name it with --arch to load it"
        )
    return arch


# A prediction may differ from the recorded one where the margin is this close to a tie.
TIE = 1e-3


@dataclass(frozen=True)
class VerifiedRow:
    """One row of a run, scored again.

    Attributes:
        checkpoint, defence, k, n, threat, attack, eps: which row.
        inputs: perturbed inputs that were measured.
        furthest: the largest distance from a clean input, as a fraction of what was allowed.
        outside: inputs further away than allowed, or outside [0, 1].
        outcomes: answers that were compared with the recorded ones.
        differing: answers that differ although the recorded margin was no tie.
        recorded, accuracy: accuracy as recorded and as measured now.
        accuracy_8bit: the same after rounding every pixel to a multiple of 1/255.
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
    accuracy_8bit: float | None = None
    problem: str = ""

    @property
    def holds(self) -> bool:
        """True if the row is what the run says."""
        return not self.problem and not self.outside and not self.differing

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def verify_run(
    path: Path,
    *,
    checkpoints: Mapping[str, str] | None = None,
    defences: Sequence[str] = (),
    arch: str | None = None,
    data_dir: str | None = None,
    device: str = "cpu",
) -> list[VerifiedRow]:
    """Verifies every row of a run whose perturbed inputs are stored (``--save-adversarials``).

    Nothing in the folder is executed; of code, only what ``defences`` and ``arch`` name is loaded.

    Args:
        path: the run folder.
        checkpoints: files to take instead of those that the run names, by checkpoint name.
        defences: user defences, ``package.module:build``, that may be loaded.
        arch: architecture code that may be loaded.
        data_dir: where data sets are looked for; None: where the run looked.
        device: where to compute.

    Raises:
        InputError: not a run folder, nothing to verify, or data or weights are not those of the run.
    """
    manifest = load_manifest(path)
    if not (path / "adversarials").is_dir():
        raise InputError(f"{path} stores no perturbed inputs; run it again with --save-adversarials")
    context = rebuilt_bench(
        manifest, checkpoints=checkpoints or {}, arch=arch, data_dir=data_dir, device=device
    )
    return [
        _verified(context, path, record, defences)
        for record in manifest.cases
        if record.case.attack not in CONTROLS
    ]


def _verified(
    context: worker_context.WorkerContext, path: Path, planned: CaseRecord, defences: Sequence[str]
) -> VerifiedRow:
    columns = planned.case.as_columns()
    name = {key: columns[key] for key in ("checkpoint", "defence", "k", "n", "threat", "attack", "eps")}
    row = rebuilt_row(context, planned, defences)
    if row is None:
        return VerifiedRow(**name, problem=f"needs the code {planned.spec}; allow it with --defence")
    tally: dict[str, Any] = Counter()  # sums over the units, by the names of a row's figures
    for unit in planned.units:
        outcomes, _, _ = read_run(path, [unit])
        try:
            evaluations = read_adversarials(path / "adversarials" / f"{unit}.safetensors")
        except DamagedAdversarials as error:
            return VerifiedRow(**name, problem=str(error))
        if outcomes.empty:
            return VerifiedRow(**name, problem=f"the outcomes of unit {unit} are missing or damaged")
        _verify_unit(context, row, evaluations, outcomes, planned.draws, tally)
    for figure in ("recorded", "accuracy", "accuracy_8bit"):
        tally[figure] /= max(tally["outcomes"], 1)
    return VerifiedRow(**name, **tally)


def _verify_unit(
    context: worker_context.WorkerContext,
    row: PlannedCase,
    evaluations: list[PerturbedBatch],
    outcomes: pd.DataFrame,
    draws: int,
    tally: dict[str, Any],
) -> None:
    scoring = outcomes[outcomes.purpose == "scoring"].set_index(["batch", "slot", "draw"]).sort_index()
    size = max(1, context.setup.group_images // row.subject.images)
    for group in _groups(evaluations, size, lambda index: context.batch(row.subject, index).k):
        members = [context.batch(row.subject, e.batch) for e in group]
        clean, y = context.group(members)
        x = clean.clone()
        for g, evaluation in enumerate(group):
            x[g, evaluation.slots.to(x.device)] = evaluation.x.to(x.device)
        _measure(context, row, group, clean, x, tally)
        if sees_queries(row.subject, row.made_by):
            continue  # its answers followed queries that are not stored
        known = group[0].known
        indices = list(range(draws)) if known == EVERY else [known]
        answers = [
            score.predictions(
                context.defence(row.subject),
                images,
                y,
                clean=clean,
                seed=context.setup.options.seed,
                batches=[e.batch for e in group],
                purpose="scoring",
                draws=indices,
                group_images=context.setup.group_images,
            )[0]
            for images in (x, (x * 255).round() / 255)
        ]
        for g, (evaluation, batch) in enumerate(zip(group, members, strict=True)):
            slots = batch.scored_slots if evaluation.victim == EVERY else [evaluation.victim]
            for d, draw in enumerate(indices):
                wanted = pd.MultiIndex.from_tuples([(evaluation.batch, slot, draw) for slot in slots])
                recorded = scoring.reindex(wanted)
                predicted, rounded = (a[d, g, list(slots)] for a in answers)
                labels = recorded.label.to_numpy()
                differs = (predicted != recorded.prediction.to_numpy()) & ~(
                    recorded.margin.abs() < TIE
                ).to_numpy()
                tally["outcomes"] += len(predicted)
                tally["differing"] += int(differs.sum())
                tally["recorded"] += int((recorded.prediction.to_numpy() == labels).sum())
                tally["accuracy"] += int((predicted == labels).sum())
                tally["accuracy_8bit"] += int((rounded == labels).sum())


def _measure(
    context: worker_context.WorkerContext,
    row: PlannedCase,
    group: list[PerturbedBatch],
    clean: Tensor,
    x: Tensor,
    tally: dict[str, Any],
) -> None:
    """How far the inputs are from the clean ones, by what each slot of the threat model may move."""
    eps_scale = None
    if row.threat.one_victim:
        slots = torch.tensor([e.victim for e in group])
        eps_scale = co_batch(slots, clean.shape[1]).eps_scale.to(x.device)
        if row.threat.inputs == "victim":
            eps_scale = torch.where(torch.isinf(eps_scale), 0.0, eps_scale)
    budget = attack_group.budget_of(context, row, eps_scale)
    tally["inputs"] += sum(len(e.slots) for e in group)
    tally["furthest"] = max(tally["furthest"], float(budget.around(clean).distance(x).max()))
    tally["outside"] += int(outside(x, clean, budget).sum())


def _groups(
    evaluations: list[PerturbedBatch], size: int, k: Callable[[int], int]
) -> Iterator[list[PerturbedBatch]]:
    """Evaluations that can be answered together: of one draw and batch size, in the order they were made in.

    Args:
        size: the most of them.
        k: inputs of a batch, by its index.
    """
    for _, of_a_kind in groupby(evaluations, key=lambda e: (e.known, k(e.batch))):
        alike = list(of_a_kind)
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def verification_table(rows: Sequence[VerifiedRow]) -> Group:
    """A block per subject, threat model and eps, a line per attack: accuracies recorded, now and after 8-bit
    rounding; the largest distance as a fraction of eps; what is off."""
    figures: Columns[VerifiedRow] = {
        "inputs": lambda row: row.inputs,
        "of eps": lambda row: f"{row.furthest:.4f}",
        "recorded": lambda row: percent(row.recorded),
        "now": lambda row: percent(row.accuracy),
        "8-bit": lambda row: percent(row.accuracy_8bit),
    }
    columns: Columns[VerifiedRow] = {"": _block, "attack": lambda row: row.attack, **figures}
    table = TextTable.of(rows, {**columns, "result": _result}, figures)
    return Group(*(PlainTable(title, block) for (title,), block in table.split(1)))


def _block(row: VerifiedRow) -> str:
    sizes = "".join(f" {name}={size}" for name, size in (("K", row.k), ("N", row.n)) if size is not None)
    return f"{row.checkpoint} | {row.defence}{sizes} | {row.threat} | eps {row.eps:.4g}"


def _result(row: VerifiedRow) -> str:
    if row.problem:
        return row.problem
    if not row.outcomes and not row.outside:
        return "within eps; its answers followed queries, which are not stored"
    faults = []
    if row.outside:
        faults.append(f"{row.outside} inputs outside eps or box")
    if row.differing:
        faults.append(f"{row.differing} of {row.outcomes} answers differ")
    return "; ".join(faults) or "holds"
