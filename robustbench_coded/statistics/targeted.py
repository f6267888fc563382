"""How often an attack towards a class gets there."""

import numpy as np

from attacks.naming import parse
from robustbench_coded.schema.controls import COMBINED, CONTROLS
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.intervals import Interval, accuracy_interval


def reached(result: CaseResult) -> Interval | None:
    """The share of answers that are the attack's target, on examples of other classes; None without a target.

    Fresh draws count as those of the accuracy do.
    """
    if result.cell is None or result.key.attack in (*CONTROLS, *COMBINED):
        return None
    target, cell = parse(result.key.attack).target, result.cell
    others = np.flatnonzero(cell.label != target)
    if target is None or not len(others):
        return None
    hit = cell.prediction[others] == target
    return accuracy_interval(hit, cell.batch[others], batch_dependent=result.unit_is_batch)
