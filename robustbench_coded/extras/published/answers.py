"""Published defences that act on the answers: logits that mislead whoever asks for them, and answers that
reject an input, by a squeezed copy or by earlier queries.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.protocol import Deterministic, WrappedNetwork
from robustbench_coded.extras.published.input_transformations import rounded

BITS, WINDOW = 4, 2
REJECTED = 0.05  # of clean images


def with_reject(answers: Tensor, excess: Tensor) -> Tensor:
    """Logits [k, classes] -> [k, classes + 1]; the last class, which rejects, wins where ``excess`` [k] is
    positive.
    """
    return torch.cat([answers, (answers.amax(-1) + 10 * excess).unsqueeze(-1)], dim=-1)


class FeatureSqueezing(WrappedNetwork, Deterministic):
    """Rejects where the probabilities of the squeezed input are far from those of the input, in l1."""

    passes = 3

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        with torch.no_grad():
            answers = model(pool)
            self.threshold = float(self._moved(pool, answers).quantile(1 - REJECTED))
        self.abstain = answers.shape[-1]

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes + 1]; the last rejects."""
        answers = self.model(x)
        return with_reject(answers, self._moved(x, answers) - self.threshold)

    def _moved(self, x: Tensor, answers: Tensor) -> Tensor:
        """By how much the squeezers move the probabilities, the largest of both [k]."""
        p = answers.softmax(-1)
        squeezed = [self.model(rounded(x, BITS)), self.model(median(x))]
        return torch.stack([(s.softmax(-1) - p).abs().sum(-1) for s in squeezed]).amax(0)


def median(x: Tensor) -> Tensor:
    """The (lower) median of every 2 x 2 window, edges repeated; shape kept."""
    padded = functional.pad(x, (0, WINDOW - 1, 0, WINDOW - 1), mode="replicate")
    return padded.unfold(2, WINDOW, 1).unfold(3, WINDOW, 1).flatten(-2).median(-1).values


CLOSE_PAIRS = 0.001  # of pairs of clean images are closer than the threshold


class StatefulDetection(WrappedNetwork, Deterministic):
    """Rejects an input that is closer to an earlier query than clean images are to each other."""

    batch_dependent = True
    remembers = True

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        apart = torch.cdist(pool.flatten(1), pool.flatten(1))
        pairs = apart[*torch.triu_indices(len(pool), len(pool), 1)]
        self.threshold = float(pairs.quantile(CLOSE_PAIRS))
        with torch.no_grad():
            self.abstain = model(pool[:1]).shape[-1]
        self.reset()

    def reset(self) -> None:
        """Forgets every query."""
        self.seen: Tensor | None = None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes + 1]; the last rejects."""
        answers = self.model(x)
        queries = x.flatten(1)
        earlier = queries if self.seen is None else torch.cat([self.seen.to(x), queries])
        distance = (queries.unsqueeze(1) - earlier).square().sum(-1).add(1e-12).sqrt()
        before = torch.arange(len(earlier)) < torch.arange(len(earlier) - len(x), len(earlier))[:, None]
        nearest = distance.where(before.to(x.device), torch.inf).amin(1)
        self.seen = earlier.detach()
        return with_reject(answers, (self.threshold - nearest).clamp(min=-self.threshold - 1))


INTERVAL = 6.0  # of margins
CALIBRATION = 5.0  # weight of the confidence
ADAM_STEPS, ADAM_RATE = 100, 0.1


class Aaa(WrappedNetwork, Deterministic):
    """Answers with logits whose margin falls where the network's own rises, and of about its confidence.

    The optimisation has no slope; the answer's gradient is the network's own.
    """

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        own = self.model(x)
        return own + (misleading(own) - own).detach()


def mirrored(margins: Tensor) -> Tensor:
    """Margins [k], 0 or more, each reflected about the centre of its interval of length ``INTERVAL``."""
    centre = ((margins / INTERVAL).floor() + 0.5) * INTERVAL
    return 2 * centre - margins


def misleading(logits: Tensor) -> Tensor:
    """Logits [k, classes] moved by Adam, so that their margins become `mirrored`."""
    with torch.inference_mode(False), torch.enable_grad():
        moved = logits.detach().clone().requires_grad_()
        wanted, first = mirrored(_margins(moved).detach()), moved.argmax(-1, keepdim=True)
        confidence = moved.detach().softmax(-1).gather(-1, first)
        adam = torch.optim.Adam([moved], ADAM_RATE)
        for _ in range(ADAM_STEPS):
            off = (moved.softmax(-1).gather(-1, first) - confidence).abs().sum()
            loss = (_margins(moved) - wanted).abs().sum() + CALIBRATION * off
            (moved.grad,) = torch.autograd.grad(loss, moved)
            adam.step()
    return moved.detach()


def _margins(logits: Tensor) -> Tensor:
    """The largest logit less the next [k]."""
    largest = logits.topk(2).values
    return largest[:, 0] - largest[:, 1]
