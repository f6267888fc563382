"""Baselines set so that they lose as much clean accuracy as the defence they are compared with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from robustbench_coded.defences.matching import STRENGTH, Batches, clean_accuracy, match_clean
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig

# Inputs to match on, none of them evaluated; a baseline's setting is then known to about a percent.
EXAMPLES = 256
DRAWS = 4
HALVINGS = 10


@dataclass(frozen=True)
class Matched:
    """A baseline's setting on one checkpoint.

    Attributes:
        spec: the baseline with its setting, as a specification.
        option, setting: what was chosen.
        accuracy: clean, as a fraction, of the baseline.
        target: specification of the defence that it matches, of clean accuracy ``target_accuracy``.
        examples: inputs that both accuracies were measured on.
    """

    checkpoint: str
    spec: str
    option: str
    setting: float
    accuracy: float
    target: str
    target_accuracy: float
    examples: int


def plain_defences(config: EvalConfig) -> tuple[str, ...]:
    """The defences asked for whose settings are given, or need none."""
    return tuple(spec for spec in config.defences if spec not in _to_match(config))


def check_matching(config: EvalConfig) -> None:
    """Raises InputError where there is nothing to match with, or nothing to match."""
    if config.match_clean is None:
        return
    _target(config)
    _baselines(config)
    if len(config.batch_sizes) > 1:
        raise InputError("--match-clean matches at one batch size; give --batch-size one number")


def matched_baselines(config: EvalConfig, context: WorkerContext, checkpoint: str) -> list[Matched]:
    """The baselines to match on a checkpoint, each with its setting; none without ``--match-clean``.

    Raises:
        InputError: there are no inputs left to match on.
    """
    if config.match_clean is None:
        return []
    k, spec = config.batch_sizes[0], _target(config)
    model = context.model(checkpoint)
    batches = _batches(context, k)
    target = context.build(spec, model, k)
    wanted = clean_accuracy(target, batches, seed=config.seed, draws=DRAWS if target.randomised else 1)
    found = []
    for text in _baselines(config):
        kind = text.partition(":")[0]
        option, weakest, strongest = STRENGTH[kind]

        def build(setting: float, text: str = text) -> Defence:
            return context.build(_with(text, setting), model, k)

        match = match_clean(
            build,
            wanted,
            batches,
            weakest=weakest or 1e-6,  # noise of no size at all is no noise
            strongest=strongest,
            seed=config.seed,
            # It averages over its samples itself, and costs as many forwards.
            draws=1 if kind == "mixup-inference" else DRAWS,
            halvings=HALVINGS,
        )
        examples = sum(len(y) for _, y in batches)
        setting = float(f"{match.setting:.4g}")
        found.append(
            Matched(checkpoint, _with(text, setting), option, setting, match.accuracy, spec, wanted, examples)
        )
    return found


def _with(text: str, setting: float) -> str:
    """The baseline's specification with its strength."""
    kind, _, rest = text.partition(":")
    return f"{kind}:{STRENGTH[kind][0]}={setting:.4g}" + (f",{rest}" if rest else "")


def _baselines(config: EvalConfig) -> list[str]:
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
        parse_defence(_with(text, STRENGTH[text.partition(":")[0]][2]))
    return wanted


def _to_match(config: EvalConfig) -> Iterator[str]:
    if config.match_clean is None:
        return
    for spec in config.defences:
        kind, _, rest = spec.partition(":")
        if kind in STRENGTH and STRENGTH[kind][0] not in (part.partition("=")[0] for part in rest.split(",")):
            yield spec


def _target(config: EvalConfig) -> str:
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


def _names(spec: str) -> tuple[Any, ...]:
    parsed = parse_defence(spec)
    return parsed.kind, parsed.label


def _batches(context: WorkerContext, k: int) -> Batches:
    """Batches of inputs that are not evaluated; one smaller one where there are fewer than K."""
    x, y = context.spare(EXAMPLES)
    whole = len(x) // k * k
    if whole == 0:
        return [(x, y)]
    return list(zip(x[:whole].split(k), y[:whole].split(k), strict=True))
