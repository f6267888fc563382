"""An entry of the zoo through the ordinary evaluation, and its verdicts beside the truth.

    evaluate_entry(name, out, n=640, **options) -> EvaluatedEntry, with .findings

Same plan, units, statistics, checks and verdict as for anybody's defence: only data and model come from
memory, and the truth is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_coded.evaluation.options.attack_choice import DEFAULT, attack_options
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run, load_run
from robustbench_coded.statistics.verdict import BROKEN
from robustbench_coded.zoo.bring import brought_by, completed
from robustbench_coded.zoo.known import Known, Truth
from robustbench_coded.zoo.registry import EXAMPLES, ZOO, ZooEntry

# The truth is what the best attack leaves. One answer in a thousand may be left by the attacks that ran.
SLIP = 0.001
ROBUST_WORDS = ("no failure found", "not settled")
BROKEN_WORDS = ("no gain", "broken", "not settled")


@dataclass(frozen=True)
class Finding:
    """What an evaluation says of an entry under one threat model, and what is true.

    Attributes:
        judgement: verdict and checks.
        low, estimate, high: the ensemble's accuracy and its 95% interval, as fractions.
        truth: robust accuracy under the best possible attack, or bounds on it.
    """

    entry: ZooEntry
    judgement: Judgement
    low: float
    estimate: float
    high: float
    truth: Truth

    @property
    def threat(self) -> str:
        return self.judgement.threat

    @property
    def holds(self) -> bool:
        """Whether the interval holds the truth, or reaches the bounds on it from the right side."""
        return self.low <= self.truth.high + SLIP and self.high >= self.truth.low

    @property
    def fair(self) -> bool:
        """Whether the verdict is one that the truth allows."""
        word = self.judgement.verdict.word
        if not self.entry.broken:
            return word in ROBUST_WORDS or (word == "broken" and self.truth.low <= BROKEN)
        # What breaks where all inputs are the attacker's may well stand where one victim is.
        return word in BROKEN_WORDS or self.threat.startswith("victim")


@dataclass(frozen=True)
class EvaluatedEntry:
    """An entry after its evaluation."""

    entry: ZooEntry
    known: Known
    run: Run

    @property
    def findings(self) -> list[Finding]:
        """What was found under each threat model, ``batch/unknown`` first."""
        found = []
        for judgement in self.run.judgements:
            accuracy = judgement.verdict.accuracy
            if judgement.key.defence == self.entry.name and accuracy is not None:
                figures = accuracy.low, accuracy.estimate, accuracy.high
                found.append(Finding(self.entry, judgement, *figures, self.known.truth(judgement.threat)))
        return sorted(found, key=lambda f: f.threat != "batch/unknown")


def evaluate_entry(
    name: str,
    out: Path,
    *,
    n: int = EXAMPLES,
    attacks: Sequence[str] = DEFAULT,
    listener: Listener | None = None,
    **options: Any,
) -> EvaluatedEntry:
    """Evaluates an entry with default settings, into the run folder ``out``.

    Args:
        n: examples.
        attacks: names and presets.
        options: of `EvalConfig`, in place of its defaults.
    """
    entry = ZOO[name]
    known = entry.load(n)
    config = EvalConfig(checkpoints=(), out=out, **{**attack_options(attacks), **options})
    path = evaluate(completed(config, entry, known), listener, brought_by(name, known))
    return EvaluatedEntry(entry, known, load_run(path))
