"""A published defence that optimises the logits of every answer."""

import torch
from torch import Tensor

from robustbench_coded.defences.protocol import Deterministic, WrappedNetwork

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
