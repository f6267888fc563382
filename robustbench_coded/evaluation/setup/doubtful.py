"""What makes an evaluation say little, told before it runs: one batch, an odd N, weights that do not fit."""

from collections.abc import Iterator, Sequence

import torch
from scipy.special import bdtrc

from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint, WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import Subject

# Batches from which intervals begin to be narrow; coded inputs per input beyond which more only cost.
BATCHES, MOST_CODED = 5, 4
GLANCE = 64  # examples that a network is asked, to see whether it was trained at all
BY_CHANCE = 0.01
PAPER = "the paper takes N from K to 1.5K"


def doubts(
    config: EvalConfig, subjects: Sequence[Subject], context: WorkerContext, available: int
) -> Iterator[str]:
    """A sentence for each thing that the user may not have meant.

    Args:
        available: examples of the data set, evaluated or not.
    """
    yield from _few_batches(config, subjects, len(context.data), available)
    for k, n in dict.fromkeys((s.k, s.n) for s in subjects if s.n is not None and s.batch_dependent):
        if n < k:
            yield f"N = {n} is less than K = {k}: decoding loses clean accuracy; {PAPER}"
        elif n > MOST_CODED * k:
            yield f"N = {n} is {n / k:.1f} times K = {k}, and so is the cost; {PAPER}"
    for checkpoint in context.setup.checkpoints:
        yield from _without_its_defence(checkpoint, subjects)
        x, y = context.data.batch(range(min(GLANCE, len(context.data))))
        right = _right(context, checkpoint.name, x, y)
        one_class = int(y.bincount().max()) / len(y)  # what a network that always names it gets right
        if bdtrc(right - 1, len(x), max(one_class, 1 / checkpoint.classes)) > BY_CHANCE:
            yield (
                f"{checkpoint.name} gets {right} of {len(x)} clean examples right, as by chance: are "
                "its weights trained, and on these data?"
            )


def _without_its_defence(checkpoint: LoadedCheckpoint, subjects: Sequence[Subject]) -> Iterator[str]:
    trained = checkpoint.facts["metadata"].get("defence")
    around = {subject.spec for subject in subjects if subject.checkpoint == checkpoint.name}
    if isinstance(trained, str) and trained not in around:
        yield (
            f"{checkpoint.name} was trained behind {trained} and is evaluated without it; "
            f"add --defence {trained}"
        )


def _few_batches(
    config: EvalConfig, subjects: Sequence[Subject], examples: int, available: int
) -> Iterator[str]:
    if config.replicates > 1:
        return
    for k in sorted({s.k for s in subjects if s.batch_dependent and s.k >= examples}):
        smaller = 1 << max(0, (examples // (BATCHES + 1)).bit_length() - 1)
        ways = [f"--limit {BATCHES * k}"] if available >= BATCHES * k else []
        ways += [f"--batch-size {smaller}"] if 2 <= smaller < k else []
        mend = f"; use {' or '.join(ways)}" if ways else ""
        yield (
            f"one batch of {k} only: outcomes of a batch depend on each other, so that intervals stay wide "
            f"and verdicts open{mend}"
        )


@torch.no_grad()
def _right(context: WorkerContext, checkpoint: str, x: torch.Tensor, y: torch.Tensor) -> int:
    with torch.random.fork_rng():  # a model in memory may sample
        answers = context.model(checkpoint)(x.to(context.device)).argmax(1).cpu()
    return int((answers == y).sum())
