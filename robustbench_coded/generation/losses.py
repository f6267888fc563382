"""The losses of WGAN-GP (arXiv 1704.00028), and equation 7 of arXiv 2510.00253 for the generator.

The paper gives no formula for the generator's coded loss. Here it is the generator's loss at the decoded
images: L = (1 - mu) L(G(z)) + mu L(D G(E z)) with L(x) = -mean of the critic's scores.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbench_coded.coding.codec import CodedSmoothing


def critic_loss(
    critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """The critic's loss, and the distance that it estimates.

    Args:
        real, fake: images [B, C, S, S]. mix: [B] in [0, 1], where between the two the gradient is asked for.
    Returns:
        the loss, and mean score of real less fake images, without gradient.
    """
    between = mix[:, None, None, None]
    x = (between * real + (1 - between) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    gap = critic(real).mean() - critic(fake).mean()
    slope = gradient.flatten(1).norm(dim=1)
    return -gap + penalty * ((slope - 1) ** 2).mean(), gap.detach()


def generator_loss(
    generator: nn.Module, critic: nn.Module, z: Tensor, coded: CodedSmoothing | None, mu: float
) -> Tensor:
    """The generator's loss at latents ``z`` [K, latent]; without a codec mu means nothing."""
    main = -critic(generator(z)).mean()
    if coded is None:
        return main
    return (1 - mu) * main - mu * critic(coded(z, generator)).mean()
