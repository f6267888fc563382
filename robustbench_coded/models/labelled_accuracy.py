"""What labelled images say about an assembled network, beside what its batch-norms remember."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

# On a CPU so many at once are answered fastest, by wide networks a third faster than 128.
BATCH = 32

# A difference of cross-entropies, or of right answers, beyond chance: in standard errors, image by image.
# What is stated is contradicted by more.
STANDARD_ERRORS = 3.0
LABELS_CONTRADICT = 4.0

# Of a class so many images have to be there, and most of them to be answered by one other output.
FEWEST_OF_A_CLASS = 5


@dataclass(frozen=True)
class Labelled:
    """A candidate on labelled images.

    Attributes:
        examples: how many.
        right: how many are answered rightly.
        cross_entropy: mean over the images in nats, of logits divided by the best ``temperature``: a network
            that is only too sure, or not sure enough, loses nothing by it.
        losses: [examples] the same for each image.
        logits: [examples, classes].
        rightly: [examples], whether each is answered rightly.
        labels: [examples], the class of each; empty where they were not kept.
    """

    examples: int
    right: int
    cross_entropy: float
    temperature: float
    losses: Tensor = field(compare=False, repr=False)
    logits: Tensor = field(compare=False, repr=False)
    rightly: Tensor = field(compare=False, repr=False)
    labels: Tensor = field(compare=False, repr=False, default_factory=lambda: torch.empty(0))

    @property
    def accuracy(self) -> float:
        return self.right / self.examples

    def accuracy_of(self, count: int) -> float:
        """The same of the first ``count`` images, at least 1 of them."""
        return float(self.rightly[:count].cpu().double().mean())

    def interval(self, error: float = 0.01) -> tuple[float, float]:
        """Clopper-Pearson's, wrong with at most that probability."""
        low, high = error / 2, 1 - error / 2
        missed = self.examples - self.right
        lower = 0.0 if self.right == 0 else float(betaincinv(self.right, missed + 1, low))
        upper = 1.0 if missed == 0 else float(betaincinv(self.right + 1, missed, high))
        return lower, upper

    def agreement(self, other: "Labelled") -> float:
        """The share of the images both answered that both give the same class, in [0, 1]."""
        both = min(self.examples, other.examples)
        return float((self.logits[:both].argmax(1) == other.logits[:both].argmax(1)).cpu().double().mean())

    def renamed(self) -> dict[int, int]:
        """Class -> output, of the classes that the network clearly has in another order than the data."""
        if not len(self.labels):
            return {}
        classes = self.logits.shape[1]
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        counts.index_put_((self.labels, self.logits.argmax(1)), torch.tensor(1), accumulate=True)
        shown, found = counts.sum(1).tolist(), {}
        if torch.equal(counts.max(1).values, counts.diagonal()):
            return {}  # every class has its own output
        from scipy.optimize import linear_sum_assignment  # takes a while, and few runs need it

        outputs = linear_sum_assignment(counts.numpy(), maximize=True)[1]
        for number, output in enumerate(outputs.tolist()):
            as_renamed, as_named = int(counts[number, output]), int(counts[number, number])
            clearly = as_renamed > shown[number] / 2 and as_named <= as_renamed / 2
            if output != number and shown[number] >= FEWEST_OF_A_CLASS and clearly:
                found[number] = output
        return found

    def worse_than(self, other: "Labelled") -> float:
        """By how many standard errors its cross-entropy is above the other's, on the images both answered."""
        both = min(self.examples, other.examples)
        difference = self.losses[:both] - other.losses[:both]
        deviation = float(difference.std()) if len(difference) > 1 else 0.0
        if deviation == 0:
            return 0.0
        return float(difference.mean()) / (deviation / len(difference) ** 0.5)

    def less_accurate_than(self, other: "Labelled") -> float:
        """By how many standard errors it answers fewer of the images rightly that both answered.

        McNemar's test (1947): only images that one of the two answers rightly say anything.
        """
        both = min(self.examples, other.examples)
        ours, theirs = self.rightly[:both], other.rightly[:both]
        only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        return (only_theirs - only_ours) / max(only_theirs + only_ours, 1) ** 0.5


@torch.no_grad()
def labelled(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    before: Labelled | None = None,
) -> Labelled:
    """Answers labelled images.

    Args:
        model: pixels to logits.
        images: [n, C, H, W] in [0, 1], n at least 1.
        labels: [n] int64, on the same device.
        before: what the first of these images have shown; only the others are answered.
    """
    known = [] if before is None else [before.logits]
    seen = 0 if before is None else before.examples
    answers = [model(batch).cpu().double() for batch in images[seen:].split(BATCH) if len(batch)]
    logits = torch.cat([*known, *answers]).nan_to_num(nan=0.0, posinf=1e30, neginf=-1e30)
    labels = labels.cpu()

    scale = _best_scale(logits, labels)
    losses = F.cross_entropy(logits * scale, labels, reduction="none")
    rightly = logits.argmax(1) == labels
    return Labelled(
        len(labels),
        int(rightly.sum()),
        float(losses.mean()),
        1 / scale,
        losses,
        logits,
        rightly,
        labels,
    )


def _best_scale(logits: Tensor, labels: Tensor) -> float:
    """The factor, within a thousand of 1, by which [n, classes] logits have the least cross-entropy.

    It is convex in the factor, and its slope there is the mean of the logits under the softmax less that of
    the labels' logits. Bisection of the factor's logarithm finds where the slope changes its sign.
    """
    right = logits.gather(1, labels[:, None]).mean()
    low, high = -10.0, 10.0
    while high - low > 0.01:
        middle = (low + high) / 2
        shares = (logits * 2.0**middle).softmax(1)
        if float((shares * logits).sum(1).mean() - right) > 0:
            high = middle
        else:
            low = middle
    return 2.0 ** ((low + high) / 2)


def floor(classes: int, *, guessed: bool = False) -> float:
    """The accuracy below which a network is not believed without other witnesses.

    Chance and a tenth of the rest; a fifth for a guess, since one of many forms is always above chance.
    """
    chance = 1 / classes
    return chance + (0.2 if guessed else 0.1) * (1 - chance)
