"""The plan of an evaluation: every case that may run, on how many examples, and what may be spent; and what
further commands would do.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path

from msgspec import structs

from attacks import accelerator, crossover, presets
from attacks.attack import PREFIX, Attack
from attacks.presets import Request
from robustbench_coded.defences.options import is_user_defence
from robustbench_coded.evaluation.execution.in_memory import DefenceAsModel, ModelInMemory
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning import plan as units
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.comparisons import (
    FIRST_LOOK,
    SLOW,
    Comparison,
    comparison_of,
    comparisons_judged,
    sample_sizes,
)
from robustbench_coded.evaluation.protocol.plan import Ceilings, EvaluationPlan, Need, Results
from robustbench_coded.evaluation.protocol.rungs import SCREEN, needed, stages_of
from robustbench_coded.evaluation.session.evaluation import Evaluation
from robustbench_coded.evaluation.session.manifest import checked_against, code_going_on, with_all_kept
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.runs.folder import read_failures
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Subject
from robustbench_coded.schema.manifest import CaseRecord, Outlook, RunManifest, SampleSizes
from robustbench_coded.schema.words import CLEAN, CONTROLS, RANDOM_SIGN, STANDARD, VerdictName

# In gradient evaluations; images smaller than 32 x 32 count by their pixels. For scale: 100 steps on 256
# images cost 25,600. What one open verdict may cost: all attacks and their checks on 256 images of a network,
# most of them through RCI.
VERDICT_IMAGES = 400_000
# Where every case on all examples costs no more than this, all of it runs.
CHEAP_IMAGES = 100_000
WHOLE_PIXELS = 1024  # of 32 x 32
# Options that say how a command was called, on what it ran, and what it leaves beside its figures.
NOT_ASKED = {"command", "overwrite", "out", "time", "workers", "threads", "engine", "save_adversarials"}
# Of the cost of attacks that the user named, what everything else may cost together.
EXTRAS_SHARE = 0.5


def planned_evaluation(prepared: PreparedEvaluation, old: RunManifest | None, path: Path) -> Evaluation:
    """Every case that may run, and on how many examples.

    Where every case on all examples is cheap, all of it runs. A run folder keeps the sample sizes that it was
    begun with.

    Raises:
        InputError: the folder was made with something else.
    """
    remarks: list[str] = []
    if old is not None:
        checked_against(old, prepared.identity, prepared.setup.checkpoints, path)
        same = json.loads(json.dumps(prepared.config.as_data()))
        again = all(old.last.options.get(name) == same[name] for name in same.keys() - NOT_ASKED)
        stopped = again and not (old.finished and not read_failures(path, old.unit_ids))
        code, remarks = code_going_on(old, prepared.code, path, stopped=stopped)
        old = old if again else with_all_kept(old, path)
        prepared = prepared.resumed_from(old).with_code(code)
    config, before = prepared.config, None if old is None else old.sequential
    examples = prepared.setup.examples
    cases, notes = units.cases_for(prepared.config, prepared.perturbations, prepared.subjects)
    notes += remarks
    height, width = prepared.context.data.image_shape[-2:]
    smaller = max(1.0, WHOLE_PIXELS / (height * width))
    slow = _slow(prepared.subjects)
    whole = config.until is None and (config.all or config.limit is not None)
    if config.until is None and before is None and not whole:
        every = (case for case in cases if not case.threat.one_victim or in_table(config, case, every=True))
        cheap = not slow and sum(map(prepared.maker().images, every)) <= CHEAP_IMAGES * smaller
        whole = old is not None or cheap
    fixed = before is None and (whole or old is not None)
    batch = min(max(config.batch_size) * (config.batches_kept or 1), examples)
    ladder = sample_sizes(examples, batch, batch if slow else FIRST_LOOK)
    if slow and not fixed and ladder[0] < min(examples, FIRST_LOOK):
        notes.append(f"{slow}: the first verdicts are from {ladder[0]} images")
    sizes = before.sample_sizes if before is not None else (examples,) if fixed else ladder
    prepared = replace(prepared, sizes=sizes)
    plan = _plan(prepared, cases, smaller, old, whole=whole)
    sequential = None if fixed else SampleSizes(until=config.until or "", sample_sizes=sizes)
    return Evaluation(prepared, plan, tuple(notes), old, sequential)


def _slow(subjects: Sequence[ProbedSubject]) -> str:
    """Why one batch has to do at first; empty where more are affordable, or one would say too little."""
    if any(subject.batch_dependent for subject in subjects):
        return ""
    most = max(subjects, key=lambda subject: subject.copies)
    if most.copies < SLOW:
        return ""
    return f"{most.label} passes {most.copies} images through the network for each input"


def _plan(
    prepared: PreparedEvaluation,
    named: Sequence[PlannedCase],
    smaller: float,
    old: RunManifest | None,
    *,
    whole: bool,
) -> EvaluationPlan:
    """The plan of these cases, and of attacks that earlier commands left in the folder.

    Args:
        smaller: how many images cost what one of 32 x 32 costs; 1 for all larger ones.
        whole: True if every row runs on all examples.
    """
    config, sizes = prepared.config, prepared.sizes
    kept = {} if old is None else {record.case: record for record in old.cases if record.kept}
    held = _held(prepared, kept)
    cases = list(dict.fromkeys([*named, *held]))
    claim = config.claim
    about = None if claim is None else claim.setting(config.inputs, prepared.resolved.eps)
    judged = comparisons_judged(cases, about, standard=STANDARD in config.defences)

    @cache
    def images(case: PlannedCase, size: int) -> int:
        return prepared.maker(size).images(case)

    # No preset with checks was requested: users who name attacks want those.
    alone = config.until is None and not config.checks
    rows = {case for case in named if config.until is None and in_table(config, case, every=whole or alone)}
    checks = config.checks or (old is not None and any(i.options.get("checks") for i in old.invocations))
    start = sizes[-1] if whole else sizes[0]
    ceilings = Ceilings()
    if config.until is None:
        extras = (
            int(EXTRAS_SHARE * sum(images(case, start) for case in rows)) if alone and not checks else None
        )
        most = int(VERDICT_IMAGES * smaller)
        unasked = not {"victim", "co-batch"} & set(config.inputs)
        ceilings = Ceilings(None if whole else most, extras, most if unasked else None)
    deferred = presets.in_norm((*presets.DEFERRED, *presets.ON_VICTIMS[1:]), config.norm)
    default = replace(config, attacks=None, claim=None)
    every = units.cases_for(default, prepared.perturbations, prepared.subjects)[0]
    attacks = (c for c in every if c.attack not in CONTROLS and not c.threat.draw_known)
    protocol = tuple(c for c in attacks if c.perturbation.eps)  # at eps 0 nothing is attacked
    always, again = frozenset({*rows, *held}), {case.case.setting for case in held}
    return EvaluationPlan(
        cases=tuple(cases),
        judged=judged,
        sizes=sizes,
        start=start,
        starts=_starts(prepared, kept, held, start),
        kept={c: own.kept for c, own in kept.items() if c.attack.startswith(PREFIX) and c.setting in again},
        images=images,
        protocol=protocol,
        stages=stages_of(protocol, partial(_wraps, prepared.context)),
        rows=always,
        deferred=frozenset(case for case in cases if case.attack in deferred and case not in always),
        ceilings=ceilings,
        everything=whole,
        rungs=SCREEN if config.screens else (),
        checks=checks,
        # A sequence has its order, in which what was perturbed for it is submitted.
        random_batches=not config.batches_kept,
        levels=prepared.context.levels,
        relus=cache(partial(_relus, prepared)) if checks else lambda checkpoint: 0,
        hidden=_hidden(prepared.context, cases),
    )


def _held(prepared: PreparedEvaluation, kept: Mapping[Case, CaseRecord]) -> list[PlannedCase]:
    """The attacks of earlier commands whose outcomes this one would compute again. What is submitted is made
    of their results; code of others is there only for who names it.
    """
    subjects = {subject.subject: subject for subject in prepared.subjects}
    held, first = [], prepared.maker(prepared.sizes[0])
    for case, record in kept.items():
        asked = case.subject in subjects and case.perturbation in prepared.perturbations
        if case.attack == CLEAN or not asked:  # clean inputs are answered by every command
            continue
        planned = PlannedCase(case, subjects[case.subject])
        ours = case.attack == RANDOM_SIGN or isinstance(planned.made_by, Attack)
        if ours and not {unit.id for unit in first.units(planned)}.isdisjoint(record.units):
            held.append(planned)
    return held


def _starts(
    prepared: PreparedEvaluation,
    kept: Mapping[Case, CaseRecord],
    held: Sequence[PlannedCase],
    start: int,
) -> dict[Comparison, int]:
    """The sample sizes that the folder holds of comparisons, where they are more than the first."""
    starts: dict[Comparison, int] = {}
    for case in held:
        before = kept[case.case].kept
        reached = (size for size in prepared.sizes if prepared.examples_planned(case, size) >= before)
        size, comparison = next(reached, prepared.sizes[-1]), comparison_of(case)
        starts[comparison] = max(size, starts.get(comparison, start))
    return starts


def in_table(config: EvalConfig, case: PlannedCase, *, every: bool) -> bool:
    """True if a case runs whatever the others find: the named rows, where they apply; what the user names.

    Args:
        every: True for all rows of the table, but for attacks of presets that only open verdicts need.
    """
    if case.attack in CONTROLS or case.attack == (config.claim and config.claim.attack):
        return True
    named = case.attack in presets.in_norm(presets.NAMED, config.norm)
    request = config.requests.get(case.attack, Request(on_batches=False))
    if case.threat.one_victim and not request.on_batches:  # before a positive verdict
        return False
    averages = case.attack == presets.FOLLOWS_SHOWN and request.if_open
    if named and averages and not case.subject.randomised:  # nothing to average over
        return False
    if every:
        return named or not request.if_open
    of_presets = {*chain(*presets.PRESETS.values())} - {*config.typed}
    return (named and case.threat.inputs == "batch") or case.attack not in of_presets


def _relus(prepared: PreparedEvaluation, checkpoint: str) -> int:
    """How many ReLUs answer an image; 0 where crossover is not run."""
    if prepared.config.norm == "l0":
        return 0
    context = prepared.context
    x = context.data.batch([0])[0].to(context.device)
    with accelerator.random_states_kept():  # a network may sample
        return crossover.relus(context.model(checkpoint), x)


def _hidden(
    context: WorkerContext, cases: Sequence[PlannedCase]
) -> dict[ProbedSubject, tuple[PlannedCase, ...]]:
    """For each user defence that needs them the attacks on its checkpoint, one for each budget."""
    hidden: dict[ProbedSubject, tuple[PlannedCase, ...]] = {}
    subjects = dict.fromkeys(case.subject for case in cases)
    for subject in subjects:
        beside = any(s.checkpoint == subject.checkpoint and s.spec == STANDARD for s in subjects)
        if not is_user_defence(subject.spec) or not _needs(context, subject, beside=beside):
            continue
        standard = replace(
            subject,
            subject=Subject(subject.checkpoint, STANDARD, None, None),
            spec=STANDARD,
            randomised=context.samples(context.model(subject.checkpoint)),
            batch_dependent=False,
            has_base=False,
            images=subject.k,
        )
        own = (case for case in cases if case.subject == subject and case.attack not in CONTROLS)
        names = presets.OF_SAMPLING if standard.randomised else presets.THROUGH_CHECKPOINT
        hidden[subject] = tuple(
            planned_case(standard, WHOLE_BATCH, name, budget)
            for budget in dict.fromkeys(case.perturbation for case in own)
            for name in presets.in_norm(names, budget.norm)
        )
    return hidden


def _needs(context: WorkerContext, subject: ProbedSubject, *, beside: bool) -> bool:
    """True if attacks through the user defence's base are not attacks on its checkpoint.

    Args:
        beside: True if the checkpoint is evaluated with standard inference, too.
    """
    model = context.model(subject.checkpoint)
    if isinstance(model, ModelInMemory) and not model.differentiable:
        return False  # these attacks follow its gradient
    if not _wraps(context, subject):
        return False
    return not beside or context.defence(subject).base is not model


def _wraps(context: WorkerContext, subject: ProbedSubject) -> bool:
    """True for a defence around a checkpoint; False where it came without one, and stands for it."""
    return subject.spec != STANDARD and not isinstance(
        context.model(subject.checkpoint).network, DefenceAsModel
    )


def outlook_of(evaluation: Evaluation, results: Results) -> list[Outlook]:
    """Further commands and their costs: all rows on all images, with what open verdicts met, and of each open
    verdict what it needs next.
    """
    plan, config = evaluation.plan, evaluation.prepared.config
    verdicts = [(s, v.name) for s, v in results.verdicts.items() if s.perturbation.eps]
    open_settings = [setting for setting, name in verdicts if name == VerdictName.NOT_SETTLED]
    ran = {case: plan.images(case, size) for case, size in results.sizes.items()}
    # An open verdict meets on all images what it met on fewer.
    met = [case for case in ran if case.case.setting in open_settings]
    every = {*met, *(case for case in plan.cases if in_table(config, case, every=True))}
    rest = sum(plan.images(case, plan.sizes[-1]) - ran.get(case, 0) for case in every)
    outlooks = [Outlook(purpose="all", option="--all", images=rest)] if rest and not plan.everything else []
    for comparison, settings in plan.judged.items():
        open_ = [setting for setting in settings if setting in open_settings]
        found = needed(plan, results, comparison) if open_ else None
        if open_ and found is None and comparison.inputs in config.inputs:  # by its name
            found = needed(plan, results, comparison, checks=False)
        if found is not None:
            outlooks.append(_outlook(evaluation, open_[0], found))
    return outlooks


def _outlook(evaluation: Evaluation, setting: Case, need: Need) -> Outlook:
    """A need as a command: attacks beside those of the run, everything else without ceilings."""
    config, plan = evaluation.prepared.config, evaluation.plan
    new = [case for case in need.cases if not case.submission and case not in plan.cases]
    option, images = "--until settled", need.gradients
    if set(new) & set(plan.protocol):
        names = dict.fromkeys([*config.typed, *(presets.IN_L0 if config.norm == "l0" else presets.DEFAULT)])
        option = f"--attacks {','.join(names)}"
    elif new and not need.batches and not need.wider and setting.threat.inputs in config.inputs:
        names = dict.fromkeys([*config.typed, *(case.attack for case in new)])
        option = f"--attacks {','.join(names)}"
        subjects = dict.fromkeys(c.subject for c in plan.judged if c.inputs == setting.threat.inputs)
        images = sum(plan.images(_on(case, subject), need.images) for case in new for subject in subjects)
    return Outlook(
        purpose="settle",
        case=setting,
        rung=str(need.rung),
        attacks=tuple(dict.fromkeys(case.attack for case in need.cases)),
        batches=need.batches,
        examples=need.images,
        option=option,
        images=images,
    )


def _on(case: PlannedCase, subject: ProbedSubject) -> PlannedCase:
    """The same attack on another subject."""
    return PlannedCase(structs.replace(case.case, subject=subject.subject), subject)
