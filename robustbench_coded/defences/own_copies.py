"""Copies of what user code is given and returns: it may write into both.

A defence that writes every answer into the same tensor (as graphs that are captured once do), or every draw
into the same array, is right for a caller that looks at one at a time.
A caller that keeps two has the later one twice.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def own_answer(answer: Any) -> Any:
    """A copy of a tensor, through which gradients pass; anything else as it is."""
    if not isinstance(answer, Tensor):
        return answer
    with torch._C.DisableTorchFunction():  # no operator of the defence's, and not relaxed as one
        return answer.clone()


def own_input(x: Tensor) -> Tensor:
    """A copy for the defence to write into, which a leaf of autograd does not allow."""
    with torch._C.DisableTorchFunction():
        return x.clone()


def own_draw(draw: Any) -> Any:
    """A draw whose tensors and arrays are copies, also inside lists, tuples and dictionaries."""
    if isinstance(draw, Tensor):
        return draw.clone()
    if isinstance(draw, np.ndarray | bytearray):
        return draw.copy()
    if isinstance(draw, tuple) and hasattr(draw, "_fields"):
        return type(draw)(*map(own_draw, draw))
    if type(draw) in (list, tuple):
        return type(draw)(map(own_draw, draw))
    if type(draw) is dict:
        return {key: own_draw(value) for key, value in draw.items()}
    return draw
