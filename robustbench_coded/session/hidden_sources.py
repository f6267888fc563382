"""Attacks on the checkpoint of a plug-in, for the plug-in alone: they are no rows of the run.

A plug-in meets its checkpoint's own perturbed inputs, whatever it calls its base. Attacks through that base
bring them where it is the checkpoint; elsewhere the checkpoint is attacked as if it were.
"""

from collections.abc import Sequence
from dataclasses import replace

from robustbench_coded.evaluation.execution.in_memory import Alone, ModelInMemory, is_plugin
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.schema.controls import CONTROLS, STANDARD
from robustbench_coded.schema.threat_model import WHOLE_BATCH

# All steps for all examples: what stops at the first wrong answer hardly leaves the checkpoint's boundary.
THROUGH_CHECKPOINT = ("transfer-pgd-20", "transfer-apgd-mt-20")
# Where the checkpoint itself samples, and its gradients must come with draws.
OF_SAMPLING = ("eot10-pgd-20", "apgd-mt-20")


def hidden_sources(context: WorkerContext, rows: Sequence[AttackCase]) -> dict[Subject, list[AttackCase]]:
    """For each plug-in that needs them the attacks on its checkpoint, one for each budget."""
    found: dict[Subject, list[AttackCase]] = {}
    evaluated = {row.subject for row in rows}
    for subject in dict.fromkeys(row.subject for row in rows):
        if not is_plugin(subject.spec) or not _needs(context, subject, evaluated):
            continue
        standard = replace(
            subject,
            spec=STANDARD,
            label=STANDARD,
            n=None,
            randomised=context.samples(context.model(subject.checkpoint)),
            batch_dependent=False,
            has_base=False,
            images=subject.k,
        )
        budgets = {
            row.budget: row
            for row in reversed(rows)
            if row.subject == subject and row.attack not in CONTROLS and not row.for_check
        }
        names = OF_SAMPLING if standard.randomised else THROUGH_CHECKPOINT
        found[subject] = [
            AttackCase(standard, WHOLE_BATCH, name, *budget, step_size=None)
            for budget in budgets
            for name in names
        ]
    return found


def _needs(context: WorkerContext, subject: Subject, evaluated: set[Subject]) -> bool:
    """Whether attacks through the plug-in's base are not attacks on its checkpoint."""
    model = context.model(subject.checkpoint)
    if isinstance(model, ModelInMemory) and not model.differentiable:
        return False  # these attacks follow its gradient
    if isinstance(model.network, Alone):
        return False  # the plug-in came without a model, and this is itself
    beside = any(other.checkpoint == subject.checkpoint and other.spec == STANDARD for other in evaluated)
    return not beside or context.defence(subject).base is not model
