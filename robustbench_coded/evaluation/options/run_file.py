"""``run.toml``: the options of an evaluation as a file that ``csrobust eval run.toml`` repeats.

Its keys are the options of the command line without their hyphens; its values are what stands behind them.
What the presets of attacks stand for and no option says has the names of `EvalConfig`'s fields.
"""

import json
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

from attacks.presets import PRESETS
from robustbench_coded.evaluation.options.config import DEFAULT, EvalConfig, attack_options

# Written in a form of their own, or not at all: they say how a command was typed, not what it evaluates. The
# folder is where the file lies, so that a run that is moved still names itself.
_ATTACKS = ("attacks", "victim_attacks", "relaxed_attacks", "second_attacks", "checks")
_OTHERWISE = {*_ATTACKS, "checkpoints", "defences", "eps", "batch_sizes"}
_NEVER = {"command", "overwrite", "out"}


def run_toml(config: EvalConfig) -> str | None:
    """The options that are not at their defaults, as TOML; None where a name holds bytes that are no text."""
    lines = [f"{key} = {_toml(value)}" for key, value in _entries(config)]
    first = "# csrobust eval run.toml repeats this evaluation; options behind it change it."
    text = "\n".join([first, *lines, ""])
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _entries(config: EvalConfig) -> Iterator[tuple[str, Any]]:
    if config.checkpoints:
        named = [path if Path(path).stem == name else f"{name}={path}" for name, path in config.checkpoints]
        yield "ckpt", named
    if config.defences:
        yield "defence", list(config.defences)
    yield from _attacks(config)
    if config.eps is not None:
        yield "eps", [_fraction(eps) for eps in config.eps]
    yield "batch_size", list(config.batch_sizes)
    for entry in fields(config):
        value = getattr(config, entry.name)
        if entry.name in _OTHERWISE | _NEVER or value is None or value == entry.default:
            continue
        if entry.name == "time":
            yield "time", f"{value:.17g}s"
        elif entry.name == "claim_eps":
            yield entry.name, _fraction(value)
        elif isinstance(value, tuple | bool | int | float):
            yield entry.name, list(value) if isinstance(value, tuple) else value
        else:
            yield entry.name, str(value)


def _attacks(config: EvalConfig) -> Iterator[tuple[str, Any]]:
    """The presets that stand for these attacks, where some do; else every name."""
    wanted = {name: getattr(config, name) for name in _ATTACKS}
    presets = [DEFAULT, *((name,) for name in PRESETS), *combinations(PRESETS, 2)]
    for chosen in presets:
        for checks in (False, True):
            if attack_options(chosen, norm=config.norm, checks=checks) == wanted:
                yield "attacks", list(chosen)
                if checks:
                    yield "checks", True
                return
    for name, value in wanted.items():
        if value:
            yield name, list(value) if isinstance(value, tuple) else value


def _fraction(value: float) -> str:
    """``8/255`` where that is the number, else all its digits."""
    over = f"{round(value * 255, 6):g}"
    same = float(Fraction(over) / 255) == value
    return min([repr(value), f"{over}/255"] if same else [repr(value)], key=len)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):  # as JSON, but for the one character that TOML escapes and JSON does not
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
