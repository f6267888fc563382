"""Results of pure functions of arrays, which reports and the rounds of a run ask for again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from hashlib import blake2b
from typing import ParamSpec, TypeVar

import numpy as np

MOST = 10_000  # results of each function that are kept

P = ParamSpec("P")
R = TypeVar("R")


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, computed once for the same arguments: arrays of the same content, or hashables.

    The result is handed out again as it is, so it must be immutable.
    """
    found: OrderedDict[Hashable, R] = OrderedDict()

    @wraps(function)
    def ask(*args: P.args, **named: P.kwargs) -> R:
        key = (*map(_key, args), *((name, _key(value)) for name, value in sorted(named.items())))
        if key not in found:
            found[key] = function(*args, **named)
            if len(found) > MOST:
                found.popitem(last=False)
        return found[key]

    return ask


def _key(value: object) -> Hashable:
    if not isinstance(value, np.ndarray):
        return value
    return value.dtype.str, value.shape, blake2b(value.tobytes(), digest_size=16).digest()
