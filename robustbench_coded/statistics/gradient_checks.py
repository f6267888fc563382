"""Checks on gradients themselves: are there any, and do those of two draws point the same way."""

import math

from robustbench_coded.schema.words import CheckName, CheckOutcome
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.next_steps import NextStep, run_attacks

ZERO_SHARE = 0.1  # of examples without a gradient, above which attacks with gradients say little
USEFUL_COSINE = 0.5  # between the gradient that an attack averages and that over all draws


def zero_gradients(share: float | None) -> Check:
    """Nearly all examples have a gradient. ``share``: of examples whose gradient is 0 everywhere."""
    name = CheckName.ZERO_GRADIENTS
    if share is None:
        return _unseen(name)
    figures = {"zero_share": share}
    finding = f"The gradient is 0 everywhere for {share:.1%} of the examples."
    if share <= ZERO_SHARE:
        return Check(name, CheckOutcome.PASSED, finding, figures)
    more = ("transfer-pgd-20", "square-1000", "random-1000", "apgd-dlr-100")
    return Check(name, CheckOutcome.FAILED, finding, figures, (), run_attacks(*more), more)


def gradients_agree(guesses: bool, draws: int, cosine: float | None, sign: float | None) -> Check:
    """Some attack averages enough draws for a direction that helps in most of them.

    Where the gradients in two draws have mean cosine c, the mean over M draws has cosine
    sqrt(M c / (1 + (M - 1) c)) with that over all draws.

    Args:
        guesses: whether the attacker does not know which draw will answer.
        draws: M, the most that an attack of the run averaged.
        cosine, sign: mean cosine and share of equal signs of the gradients in two draws.
    """
    name = CheckName.GRADIENTS_AGREE
    if not guesses:
        return Check(name, CheckOutcome.PASSED, "Nothing is random to the attacker: there is one gradient.")
    if cosine is None or math.isnan(cosine):
        return _unseen(name)
    reached = math.sqrt(draws * cosine / (1 + (draws - 1) * cosine)) if cosine > 0 else 0.0
    figures = {"cosine": cosine, "draws": float(draws), "cosine_of_mean": reached}
    if sign is not None:
        figures["sign"] = sign
    finding = (
        f"The gradients of two draws have cosine {cosine:.2f}; that of {_averaged(draws)} has "
        f"{reached:.2f} with the mean over all draws."
    )
    if reached >= USEFUL_COSINE:
        return Check(name, CheckOutcome.PASSED, finding, figures)
    target = USEFUL_COSINE**2
    enough = math.ceil(target * (1 - cosine) / (cosine * (1 - target))) if cosine > 0 else 2 * draws
    more = f"eot{max(enough, draws + 1)}-pgd-20"
    return Check(name, CheckOutcome.FAILED, finding, figures, (), run_attacks(more), (more,))


def _averaged(draws: int) -> str:
    return "one draw" if draws == 1 else f"the mean over {draws} draws"


def _unseen(name: CheckName) -> Check:
    return Check(
        name, CheckOutcome.NOT_RUN, "Gradients were not measured.", next_step=NextStep("run the probe")
    )
