"""What survives an attacker who submits each perturbed input several times, with its interval.

An answer to one of the M submissions that is wrong is enough. Each meets a fresh draw, so an input that is
right with probability p survives with p^M, and the input that falls most often in one submission is also the
best one to submit M times, or to mix with others: no attack has to be run for an M of its own.
"""

import numpy as np

from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.draws import accuracy_submissions
from robustbench_coded.statistics.intervals import TAIL, Interval, accuracy_interval


def survival(result: CaseResult, submissions: int, tail: float = TAIL) -> Interval | None:
    """`accuracy_submissions` of a row, each end erring with probability ``tail``.

    The draws are cut into blocks of ``submissions`` draws that share none. An example survives a block if it
    is right in all of its draws; the interval is that of these outcomes. The estimate uses all subsets of the
    draws, of which the blocks are some; the interval is widened to hold it.

    Returns:
        of a deterministic defence the accuracy: asking again changes nothing. None without outcomes, for
        fewer draws than submissions, and where the draw is known: each attack then meets one draw.
    """
    cell = result.cell
    if cell is None or result.key.threat.randomness == "known":
        return None
    if not result.randomised:
        return result.interval(tail)
    if cell.correct.shape[1] < submissions:
        return None
    estimate = accuracy_submissions(cell, submissions)
    blocks = cell.correct.shape[1] // submissions
    tried = cell.correct[:, : blocks * submissions].reshape(len(cell.correct), blocks, submissions)
    found = accuracy_interval(
        np.asarray(tried.all(axis=2)),
        cell.batch,
        batch_dependent=result.unit_is_batch,
        tail=tail / max(result.looks, 1),
    )
    return Interval(estimate, min(found.low, estimate), max(found.high, estimate))
