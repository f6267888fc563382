"""Rows that an interrupted evaluation had decided on while it ran: they are brought to their end first.

What the checks ask for depends on what has been measured. With half of such a row in the folder they may ask
for something else, and its other half would never be computed.
"""

from collections.abc import Container, Sequence

from attacks.naming import parse
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.plan import UnitMaker
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.planned_case import PlannedCase


def half_done(
    old: RunManifest,
    done: Container[str],
    planned: Sequence[AttackCase],
    subjects: Sequence[Subject],
    maker: UnitMaker,
) -> list[AttackCase]:
    """The rows of a folder that this evaluation does not plan by itself, and whose units it would cut alike.

    Of a finished evaluation only those with units that failed. Rows of other options have other units and are
    left to the command that planned them; submitted inputs are planned anew from what there is.

    Args:
        old: the folder's manifest, before this evaluation.
        done: units with outcomes.
        planned: what this evaluation plans before anything runs.
    """
    known = {row.key for row in planned}
    by_key = {subject.key: subject for subject in subjects}
    rows = []
    for case in old.rows:
        subject = by_key.get(case.subject)
        if subject is None or case.key in known or case.attack in CONTROLS:
            continue
        ids = [unit.id for unit in case.units]
        if old.finished and all(unit in done for unit in ids):
            continue
        row = _row(case, subject)
        if row is not None and [unit.id for unit in maker.units(row)] == ids:
            rows.append(row)
    return rows


def _row(case: PlannedCase, subject: Subject) -> AttackCase | None:
    """A planned case as a row; None for submitted inputs, and for an attack that no longer exists."""
    try:
        parse(case.attack)
    except ValueError:
        return None
    return AttackCase(
        subject=subject,
        threat=case.key.threat,
        attack=case.attack,
        norm=case.norm,
        eps=case.eps,
        eps_space=case.eps_space,
        step_size=case.step_size,
        for_check=case.for_check,
    )
