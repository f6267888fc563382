"""The options of ``robustbench_coded.evaluate`` as an editor completes and checks them.

`EvalConfig` is their one definition; ``docs/options.py`` writes this file from it, with the types that Python
callers may write: one value where a tuple is stored, and text or a number for a radius.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Literal, TypedDict

import torch

Radius = float | str  # 8/255 or "8/255"


class EvaluateOptions(TypedDict, total=False):
    """Keyword arguments of `evaluate` besides its own; ``csrobust eval --help`` says what each does."""

    arch: str | None
    normalize: str | None
    standard: bool
    data_dir: str | PathLike[str] | None
    limit: int | None
    all: bool
    first: bool
    batch_size: int | Sequence[int]
    state: str
    norm: str | float
    eps: Radius | Sequence[Radius] | None
    eps_space: Literal["pixel", "normalized"]
    inputs: str | Sequence[str]
    draws: int
    seed: int
    margin: float
    claim: float | str | None
    time: float | str | None
    until: Literal["settled"] | None
    device: str | torch.device | None
    attack_precision: Literal["float32", "bfloat16", "auto"]
    threads: int | None
    workers: int | None
    engine: Literal["local", "ray"]
    out: str | PathLike[str] | None
    overwrite: bool
    save_adversarials: bool
