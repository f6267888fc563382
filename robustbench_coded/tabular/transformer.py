"""A small Transformer encoder (arXiv 1706.03762, layer norm before each part) that classifies sequences."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

WIDTH, HEADS, LAYERS = 32, 4, 2


class Transformer(nn.Module):
    """``[k, features, 1, 1]``, read as ``tokens`` tokens of equal length, to logits ``[k, classes]``.

    Raises:
        ValueError: the features do not divide into that many tokens.
    """

    def __init__(self, features: int, tokens: int, classes: int):
        super().__init__()
        if features % tokens:
            raise ValueError(f"expected tokens to divide {features} features, got {tokens}")
        self.embed = _Embedding(features // tokens, tokens)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0, batch_first=True, norm_first=True)
            for _ in range(LAYERS)
        )
        self.head = _Head(classes)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """The layers, whose composition is the network."""
        return [self.embed, *self.layers, self.head]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks():
            x = block(x)
        return x


class _Embedding(nn.Module):
    """Tokens as vectors, with a learned one added for each position."""

    def __init__(self, length: int, tokens: int):
        super().__init__()
        self.tokens = tokens
        self.linear = nn.Linear(length, WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        embedded: Tensor = self.linear(x.reshape(len(x), self.tokens, -1)) + self.position
        return embedded


class _Head(nn.Module):
    """The mean over tokens, normalised, to logits."""

    def __init__(self, classes: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(x.mean(dim=1)))
        return logits
