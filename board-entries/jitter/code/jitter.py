"""Gaussian noise on every pixel: the example of docs/your-defence.md, as somebody would submit it."""

import torch


class Jitter:
    """Adds Gaussian noise to its input. A draw is the seed of the noise."""

    name = "jitter"
    randomised = True
    batch_dependent = False

    def __init__(self, model):
        self.base = model

    def sample(self, generator, k):
        return int(torch.randint(2**31, (), generator=generator))

    def logits(self, x, draw):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(draw))
        return self.base(x + 0.1 * noise.to(x.device))


build = Jitter
