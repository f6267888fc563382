"""Vision transformer (Dosovitskiy et al. 2020, arXiv 2010.11929) for small images.

Names of the weights are timm's (``patch_embed.proj``, ``blocks.0.attn.qkv``, ``head``).
"""

from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_coded.models import pixel_model, refusal
from robustbench_coded.models.architectures.layers import Listed


class PatchEmbedding(nn.Module):
    """Images (batch, channels, height, width) -> patches (batch, patches, dim)."""

    def __init__(self, in_channels: int, patch: int, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention over (batch, tokens, dim)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # (batch, tokens, 3 dim) -> query, key, value, each (batch, heads, tokens, dim / heads)
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers, the hidden one four times as wide."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Layer(nn.Module):
    """Attention and MLP, each behind a layer-norm and beside a shortcut."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(pixel_model.BlockNetwork):
    """Patches with a class token and learned positions, pre-norm layers, a linear head on the class token.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        image_size: height and width in pixels; a multiple of ``patch``.
        patch: height and width of a patch in pixels.
        dim: width of a token; a multiple of ``heads``.
        depth: number of layers.
        heads: attention heads a layer.
    """

    blocks: Listed

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        patch: int = 4,
        dim: int = 192,
        depth: int = 6,
        heads: int = 3,
    ) -> None:
        super().__init__()
        if min(patch, dim, depth, heads) < 1 or image_size < patch or image_size % patch or dim % heads:
            raise ValueError(
                "expected an image size that is a multiple of the patch and a dim that is a multiple of the "
                f"heads, got {image_size=}, {patch=}, {dim=}, {depth=}, {heads=}"
            )
        self.image_size = image_size
        self.patch_embed = PatchEmbedding(in_channels, patch, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2 + 1, dim))
        self.blocks = Listed((Layer(dim, heads) for _ in range(depth)), self._embed, self._last)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def _embed(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(f"expected {self.image_size}x{self.image_size} images, got {tuple(x.shape)}")
        tokens = self.patch_embed(x)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], dim=1) + self.pos_embed

    def _last(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks[-1](x))[:, 0])


def vit_name(shapes: refusal.Shapes) -> str | None:
    """``vit-PATCH-DIM-DEPTH-HEADS`` as the shapes have it; None where they are of another family.

    The heads leave no trace in the shapes: 64 channels each is what timm's models have.
    """
    projection = shapes.get("patch_embed.proj.weight")
    if projection is None or len(projection) != 4:
        return None
    dim, _, patch, _ = projection
    depth = sum(name.startswith("blocks.") and name.endswith(".attn.qkv.weight") for name in shapes)
    return f"vit-{patch}-{dim}-{depth}-{max(1, dim // 64)}"


def image_size_for(shapes: refusal.Shapes) -> int | None:
    """Height and width of the images in pixels, from the number of positions; None for another family."""
    positions, projection = shapes.get("pos_embed"), shapes.get("patch_embed.proj.weight")
    if positions is None or projection is None or len(positions) != 3 or len(projection) != 4:
        return None
    return isqrt(max(positions[1] - 1, 0)) * projection[2]
