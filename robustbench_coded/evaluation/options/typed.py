"""The options of ``robustbench_coded.evaluate`` as an editor completes and checks them.

`EvalConfig` is their one definition, with help, default and rule. A type checker cannot read it there, so the
names stand here once more (a test compares both), with the types that Python callers may write: one value
where a tuple is stored, and text or a number for a radius.
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
    guess: bool
    data_dir: str | PathLike[str] | None
    limit: int | None
    all: bool
    first: bool
    batch_size: int | Sequence[int]
    standard: bool
    norm: str | float
    eps: Radius | Sequence[Radius] | None
    eps_space: Literal["pixel", "normalized"]
    inputs: str | Sequence[str]
    draws: int
    selection_draws: int
    aware_attacks: int
    seed: int
    early_stop: bool
    attack_precision: Literal["float32", "bfloat16", "auto"]
    device: str | torch.device | None
    threads: int | None
    engine: Literal["local", "ray"]
    workers: int | None
    time: float | None
    until: Literal["settled"] | None
    state: Literal["reset", "persistent"]
    sequence_length: int
    save_adversarials: bool
    margin: float
    claim: float | None
    claim_threat: str | None
    claim_eps: float | None
    claim_votes: int | None
    claim_attack: str | None
    out: str | PathLike[str] | None
    overwrite: bool
