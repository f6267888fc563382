"""Learning rates as functions of the progress, so that a run can go on anywhere."""

from collections.abc import Sequence

WARM_UP = 0.3  # share of a one-cycle run in which the rate rises
PAPER_EPOCHS = 350  # arXiv 2510.00253, appendix E.1, CIFAR-10 and CIFAR-100
PAPER_MILESTONES = (100, 250)


def one_cycle(progress: float, peak: float) -> float:
    """Linearly up to ``peak`` over the first 30% of the run, then linearly down to 0.

    The triangle of arXiv 1708.07120; ``progress`` goes from 0 to 1 over the run.
    """
    if progress < WARM_UP:
        return peak * progress / WARM_UP
    return peak * (1 - progress) / (1 - WARM_UP)


def milestones(epoch: int, at: Sequence[int], initial: float) -> float:
    """``initial``, divided by 10 at each epoch of ``at``; epochs count from 0."""
    return initial * 0.1 ** sum(epoch >= milestone for milestone in at)
