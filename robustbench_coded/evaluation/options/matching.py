"""``--match-clean``: which defence is matched, by which baselines."""

from collections.abc import Iterator
from typing import Any

from robustbench_coded.defences.matching import STRENGTH
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig


def plain_defences(config: EvalConfig) -> tuple[str, ...]:
    """The defences asked for whose settings are given, or need none."""
    return tuple(spec for spec in config.defences if spec not in _to_match(config))


def check_matching(config: EvalConfig) -> None:
    """Raises InputError where there is nothing to match with, or nothing to match."""
    if config.match_clean is None:
        return
    defence_to_match(config)
    baselines_to_match(config)
    if len(config.batch_sizes) > 1:
        raise InputError("--match-clean matches at one batch size; give --batch-size one number")


def defence_to_match(config: EvalConfig) -> str:
    """The one defence that ``--match-clean`` names, by its kind, its name in tables or as it was given."""
    name = config.match_clean
    others = [spec for spec in config.defences if spec.partition(":")[0] not in STRENGTH]
    found = [spec for spec in others if name in (spec, *_names(spec))]
    if len(found) == 1:
        return found[0]
    given = ", ".join(others) or "none is given"
    if found:
        raise InputError(f"--match-clean {name} names several defences; choose one of {given}")
    raise InputError(f"--match-clean {name!r} names no defence of this run ({given}); give one, --rci N=190")


def baselines_to_match(config: EvalConfig) -> list[str]:
    """The baselines to match: those named without their strength; all where none is named."""
    named = [spec for spec in config.defences if spec.partition(":")[0] in STRENGTH]
    if not named:
        return list(STRENGTH)
    wanted = list(_to_match(config))
    if not wanted:
        raise InputError(
            f"--match-clean has nothing to match: {named[0]} has its setting; leave that out, "
            f"--defence {named[0].partition(':')[0]}"
        )
    for text in wanted:
        parse_defence(with_strength(text, STRENGTH[text.partition(":")[0]][2]))
    return wanted


def with_strength(text: str, setting: float) -> str:
    """The baseline's specification with its strength."""
    kind, _, rest = text.partition(":")
    return f"{kind}:{STRENGTH[kind][0]}={setting:.4g}" + (f",{rest}" if rest else "")


def _to_match(config: EvalConfig) -> Iterator[str]:
    if config.match_clean is None:
        return
    for spec in config.defences:
        kind, _, rest = spec.partition(":")
        if kind in STRENGTH and STRENGTH[kind][0] not in (part.partition("=")[0] for part in rest.split(",")):
            yield spec


def _names(spec: str) -> tuple[Any, ...]:
    parsed = parse_defence(spec)
    return parsed.kind, parsed.label
