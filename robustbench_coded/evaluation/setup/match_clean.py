"""Baselines set so that they lose as much clean accuracy as the defence they are compared with."""

from dataclasses import dataclass

from robustbench_coded.defences.matching import STRENGTH, Batches, clean_accuracy, match_clean
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.matching import baselines_to_match, defence_to_match, with_strength

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


def matched_baselines(config: EvalConfig, context: WorkerContext, checkpoint: str) -> list[Matched]:
    """The baselines to match on a checkpoint, each with its setting; none without ``--match-clean``.

    Raises:
        InputError: there are no inputs left to match on.
    """
    if config.match_clean is None:
        return []
    k, spec = config.batch_sizes[0], defence_to_match(config)
    model = context.model(checkpoint)
    batches = _batches(context, k)
    target = context.build(spec, model, k)
    wanted = clean_accuracy(target, batches, seed=config.seed, draws=DRAWS if target.randomised else 1)
    found = []
    for text in baselines_to_match(config):
        kind = text.partition(":")[0]
        option, weakest, strongest = STRENGTH[kind]

        def build(setting: float, text: str = text) -> Defence:
            return context.build(with_strength(text, setting), model, k)

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
            Matched(
                checkpoint,
                with_strength(text, setting),
                option,
                setting,
                match.accuracy,
                spec,
                wanted,
                examples,
            )
        )
    return found


def _batches(context: WorkerContext, k: int) -> Batches:
    """Batches of inputs that are not evaluated; one smaller one where there are fewer than K."""
    x, y = context.spare(EXAMPLES)
    whole = len(x) // k * k
    if whole == 0:
        return [(x, y)]
    return list(zip(x[:whole].split(k), y[:whole].split(k), strict=True))
