"""One unit of work: attack its batches, score what came out, return outcome rows."""

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attacks.budget import Budget
from attacks.naming import AttackName, parse
from attacks.registry import attack_for, estimator_for
from attacks.roles import copies, free_company, one_victim
from robustbench_coded.engine.results import UnitResult
from robustbench_coded.evaluation.batches import Batch, Victim
from robustbench_coded.evaluation.plan import Row, Unit
from robustbench_coded.evaluation.score import predictions
from robustbench_coded.evaluation.streams import stream
from robustbench_coded.evaluation.target import Target
from robustbench_coded.evaluation.workbench import Workbench


@dataclass
class _Tally:
    """What a unit has gathered so far."""

    columns: list[dict[str, np.ndarray]] = field(default_factory=list)
    costs: Counter = field(default_factory=Counter)
    adversarials: dict[str, Tensor] = field(default_factory=dict)


def execute(bench: Workbench, unit: Unit) -> UnitResult:
    """Runs one unit.

    Raises:
        InvalidAnswer: the defence answered with NaN or the wrong shape.
        Exception: whatever the defence or the attack raised; the engine makes it a recorded failure.
    """
    started = time.perf_counter()
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    tally = _Tally()
    run = _run_batches if unit.row.threat.inputs == "batch" else _run_victims
    run(bench, unit, tally)
    rows = _frame(unit, tally.columns)
    timing = {"seconds": time.perf_counter() - started, "peak_memory_bytes": _peak_memory(bench.device)}
    return UnitResult(unit, rows, dict(sorted(tally.costs.items())), timing, tally.adversarials)


def budget_of(bench: Workbench, row: Row, reach: Tensor | None = None) -> Budget:
    """The budget of a row, in the space that its eps is measured in."""
    deviation = bench.checkpoint(row.subject.checkpoint).deviation if row.eps_space == "normalized" else None
    return Budget(row.norm, row.eps, row.eps_space, deviation, reach)  # type: ignore[arg-type]


# --- all inputs of a batch are the attacker's ---


def _run_batches(bench: Workbench, unit: Unit, tally: _Tally) -> None:
    row, seed = unit.row, _seed(bench, unit)
    defence = bench.defence(row.subject)
    batches = bench.batches(row.subject, unit.replicate)
    for indices in unit.groups:
        group = [batches[i] for i in indices]
        x, y = bench.group(group)
        target = Target(defence, group[0].k, seed, indices)
        if row.threat.randomness == "known":
            for draw in range(_separate_attacks(bench)):
                adversarial = _attack(bench, unit, target, x, y, indices, draw, tally)
                _score(bench, unit, group, adversarial, y, "scoring", [draw], tally)
        else:
            adversarial = _attack(bench, unit, target, x, y, indices, None, tally)
            for purpose, draws in _draws(bench, row):
                _score(bench, unit, group, adversarial, y, purpose, draws, tally)


def _attack(
    bench: Workbench,
    unit: Unit,
    target: Target,
    x: Tensor,
    y: Tensor,
    indices: Sequence[int],
    known: int | None,
    tally: _Tally,
) -> Tensor:
    """The unit's attack on one group; ``known`` is the scoring draw that the attacker knows, if any."""
    row, seed = unit.row, _seed(bench, unit)
    generators = [stream(seed, batch, "start", known or 0) for batch in indices]
    if row.attack == "clean":
        return x
    budget = budget_of(bench, row)
    if row.attack == "random-sign":
        return budget.random_sign(x, generators)
    draws = None if known is None else target.known_draws(known)
    return _perturb(bench, unit, parse(row.attack), target, x, y, budget, generators, draws, None, tally)


def _perturb(
    bench: Workbench,
    unit: Unit,
    name: AttackName,
    target: Target,
    x: Tensor,
    y: Tensor,
    budget: Budget,
    generators: list[torch.Generator],
    known: Sequence[Any] | None,
    weights: Tensor | None,
    tally: _Tally,
) -> Tensor:
    """Runs an attack of ours, after the one that it starts from."""
    start = None
    if name.init is not None:
        start = _perturb(bench, unit, name.init, target, x, y, budget, generators, known, weights, tally)
    base = getattr(bench.defence(unit.row.subject), "base", None)
    estimator = estimator_for(
        name,
        target,
        base=base,
        known=known,
        weights=weights,
        generators=generators,
        max_images=bench.setup.group_images,
    )
    attack = attack_for(name, drop=target.independent and bench.setup.config.drop)
    adversarial = attack.perturb(x, y, estimator, budget, generators, start)
    tally.costs["forwards"] += estimator.forwards
    tally.costs["backwards"] += estimator.backwards
    return adversarial


def _score(
    bench: Workbench,
    unit: Unit,
    group: list[Batch],
    x: Tensor,
    y: Tensor,
    purpose: str,
    draws: list[int],
    tally: _Tally,
) -> None:
    labels, margins = predictions(
        bench.defence(unit.row.subject),
        x,
        y,
        seed=_seed(bench, unit),
        batches=[b.index for b in group],
        purpose=purpose,  # type: ignore[arg-type]
        draws=draws,
        group_images=bench.setup.group_images,
    )
    for position, batch in enumerate(group):
        slots = np.arange(batch.scored)
        tally.columns += _columns(
            purpose,
            draws,
            example=np.asarray(batch.members)[slots],
            batch=np.full(batch.scored, batch.index),
            slot=slots,
            label=y[position, : batch.scored].cpu().numpy(),
            prediction=labels[:, position, : batch.scored],
            margin=margins[:, position, : batch.scored],
        )


# --- one victim in each batch ---


def _run_victims(bench: Workbench, unit: Unit, tally: _Tally) -> None:
    row = unit.row
    batches = bench.batches(row.subject, unit.replicate)
    for victims in _victim_groups(bench, unit):
        group = [batches[v.batch] for v in victims]
        x, y = bench.group(group)
        if row.threat.randomness == "known":
            for draw in range(_separate_attacks(bench)):
                adversarial = _attack_victims(bench, unit, victims, x, y, draw, tally)
                _score_victims(bench, unit, victims, group, adversarial, y, "scoring", [draw], tally)
        else:
            adversarial = _attack_victims(bench, unit, victims, x, y, None, tally)
            for purpose, draws in _draws(bench, row):
                _score_victims(bench, unit, victims, group, adversarial, y, purpose, draws, tally)


def _attack_victims(
    bench: Workbench,
    unit: Unit,
    victims: list[Victim],
    x: Tensor,
    y: Tensor,
    known: int | None,
    tally: _Tally,
) -> Tensor:
    """Each victim's whole batch after the attack, [victims, K, C, H, W]."""
    row, seed, k = unit.row, _seed(bench, unit), x.shape[1]
    name = parse(row.attack)
    slots = torch.tensor([v.slot for v in victims])
    batches = [v.batch for v in victims]
    # Victims of one batch must not start alike: the stream's index tells them apart.
    generators = [stream(seed, v.batch, "start", v.slot + k * (known or 0)) for v in victims]
    target = Target(bench.defence(row.subject), k, seed, batches)
    free = row.threat.inputs == "co-batch"
    if name.estimator == "transfer":
        # The base model answers input by input: the victim is attacked without its company, and the best
        # that free co-batched inputs can do with the result is to be copies of it.
        place = torch.arange(len(victims)), slots
        alone = _perturb(
            bench,
            unit,
            name,
            target,
            x[place][:, None],
            y[place][:, None],
            budget_of(bench, row),
            generators,
            None,
            None,
            tally,
        )
        if free:
            return copies(alone[:, 0], k)
        adversarial = x.clone()
        adversarial[place] = alone[:, 0]
        return adversarial
    roles = (free_company if free else one_victim)(slots, k)
    draws = None if known is None else target.known_draws(known)
    budget = budget_of(bench, row, roles.reach.to(x.device))
    return _perturb(
        bench, unit, name, target, x, y, budget, generators, draws, roles.weights.to(x.device), tally
    )


def _victim_groups(bench: Workbench, unit: Unit) -> Iterator[list[Victim]]:
    """Victims whose batches fit into one forward."""
    size = max(1, bench.setup.group_images // unit.row.subject.images)
    for start in range(0, len(unit.victims), size):
        yield list(unit.victims[start : start + size])


def _score_victims(
    bench: Workbench,
    unit: Unit,
    victims: list[Victim],
    group: list[Batch],
    x: Tensor,
    y: Tensor,
    purpose: str,
    draws: list[int],
    tally: _Tally,
) -> None:
    labels, margins = predictions(
        bench.defence(unit.row.subject),
        x,
        y,
        seed=_seed(bench, unit),
        batches=[v.batch for v in victims],
        purpose=purpose,  # type: ignore[arg-type]
        draws=draws,
        group_images=bench.setup.group_images,
    )
    slots = np.asarray([v.slot for v in victims])
    which = np.arange(len(victims))
    tally.columns += _columns(
        purpose,
        draws,
        example=np.asarray([b.members[v.slot] for b, v in zip(group, victims, strict=True)]),
        batch=np.asarray([v.batch for v in victims]),
        slot=slots,
        label=y.cpu().numpy()[which, slots],
        prediction=labels[:, which, slots],
        margin=margins[:, which, slots],
    )


# --- rows ---


def _draws(bench: Workbench, row: Row) -> list[tuple[str, list[int]]]:
    """Which draws a row is scored on; a deterministic defence has only one answer."""
    if not row.subject.randomised:
        return [("scoring", [0])]
    config = bench.setup.config
    return [("selection", list(range(config.selection_draws))), ("scoring", list(range(config.draws)))]


def _separate_attacks(bench: Workbench) -> int:
    return min(bench.setup.config.aware_attacks, bench.setup.config.draws)


def _seed(bench: Workbench, unit: Unit) -> int:
    return bench.setup.config.seed + unit.replicate


def _columns(
    purpose: str, draws: list[int], *, prediction: np.ndarray, margin: np.ndarray, **by_example: np.ndarray
) -> list[dict[str, np.ndarray]]:
    """One block of columns for each draw; prediction and margin are [draws, examples]."""
    return [
        {
            **by_example,
            "purpose": np.full(len(prediction[i]), purpose),
            "draw": np.full(len(prediction[i]), draw),
            "prediction": prediction[i],
            "margin": margin[i],
        }
        for i, draw in enumerate(draws)
    ]


def _frame(unit: Unit, columns: list[dict[str, np.ndarray]]) -> pd.DataFrame:
    row, subject = unit.row, unit.row.subject
    frame = pd.DataFrame({name: np.concatenate([block[name] for block in columns]) for name in columns[0]})
    frame = frame.sort_values(["purpose", "draw", "batch", "slot"], kind="stable", ignore_index=True)
    constant = {
        "checkpoint": subject.checkpoint,
        "defence": subject.label,
        "k": subject.shown_k,
        "n": subject.n,
        "threat": str(row.threat),
        "attack": row.attack,
        "norm": row.norm,
        "eps": row.eps,
        "eps_space": row.eps_space,
        "step_size": row.step_size,
        "replicate": unit.replicate,
    }
    for name, value in constant.items():
        frame[name] = pd.Series([value] * len(frame), dtype="Int32" if name in ("k", "n") else None)
    return frame


def _peak_memory(device: torch.device) -> int:
    """Bytes: the device's peak in this unit on CUDA, the process's so far on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
