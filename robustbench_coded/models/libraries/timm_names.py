"""Which of timm's networks a state dict is of, for the families whose shapes settle the rest."""

import re
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]

# By the channels after the stem and the number of blocks in the third stage.
CONVNEXT = {(96, 9): "tiny", (96, 27): "small", (128, 27): "base", (192, 27): "large", (256, 27): "xlarge"}
SWIN = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base", (192, 18): "large"}
# By the number of relative positions in a window: its width and the size of the images.
WINDOWS = {13 * 13: "window7_224", 23 * 23: "window12_384"}


def name_for(shapes: Shapes) -> str | None:
    """timm's name; None for another family, or one whose strides or heads leave no trace in the shapes."""
    stem = shapes.get("stem.0.weight", ())
    if len(stem) == 4 and stem[2:] == (4, 4) and "stages.0.blocks.0.conv_dw.weight" in shapes:
        size = CONVNEXT.get((stem[0], _blocks(shapes, "stages.2.blocks.")))
        return f"convnext_{size}" if size else None
    stem = shapes.get("patch_embed.proj.weight", ())
    table = shapes.get("layers.0.blocks.0.attn.relative_position_bias_table", ())
    if len(stem) == 4 and len(table) == 2:
        size = SWIN.get((stem[0], _blocks(shapes, "layers.2.blocks.")))
        window = WINDOWS.get(table[0])
        return f"swin_{size}_patch4_{window}" if size and window else None
    return None


def _blocks(shapes: Shapes, prefix: str) -> int:
    """How many numbers follow the prefix."""
    numbers = (
        re.match(r"\d{1,3}\.", name.removeprefix(prefix)) for name in shapes if name.startswith(prefix)
    )
    return len({number[0] for number in numbers if number})
