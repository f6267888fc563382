"""Provisional."""

import math


def batches_needed(left: float, bar: float, tail: float) -> int:
    if left >= bar:
        return 10**9
    step = math.log((1 - left) / (1 - bar))
    return math.ceil(math.log(5 / tail) / step)
