"""An entry of the zoo through the ordinary evaluation, and its verdicts beside the truth.

    evaluate_entry(name, out, **options) -> EvaluatedEntry, with .findings
    judge_entry(name, out, **options)    -> [Finding, ...], of entries that are refused, too

Same plan, units, statistics, checks and verdict as for anybody's defence: only data and model come from
memory, and the truth is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from attacks.presets import DEFAULT
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import IncompleteRun, evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.run import Run, load_run
from zoo.known import Known, Truth
from zoo.registry import ZOO, ZooEntry

# The truth is what the best attack leaves. One answer in a thousand may be left by the attacks that ran.
SLIP = 0.001
NOTHING = 0.05  # what is left of a defence that an attacker may call broken
REFUSED = "refused"

Sense = Literal["positive", "negative", "open"]


@dataclass(frozen=True)
class Finding:
    """What an evaluation says of an entry under one threat model, and what is true.

    Attributes:
        threat: ``batch/unknown`` of an entry that was refused.
        verdict: the verdict's, or ``refused``. reason: its sentence.
        open_checks: names of the checks that did not pass.
        low, estimate, high: the ensemble's accuracy and its 95% interval, as fractions; None where there are
            no outcomes.
        truth: robust accuracy under the best possible attack, or bounds on it.
        bar: the accuracy up to which the verdict calls a defence without a base model broken.
        whole_batch: the truth under ``batch/unknown``, for findings on victims; None where it is not known.
    """

    entry: ZooEntry
    threat: str
    verdict: str
    reason: str
    open_checks: tuple[str, ...]
    low: float | None
    estimate: float | None
    high: float | None
    truth: Truth
    bar: float = NOTHING
    whole_batch: Truth | None = None

    @property
    def sense(self) -> Sense:
        """What the word comes to. A defence that is refused is refused for a fault that is named."""
        if self.verdict == "no failure found":
            return "positive"
        return "open" if self.verdict == "not settled" else "negative"

    @property
    def broken(self) -> bool:
        """Whether a positive verdict would be wrong under this threat model.

        What breaks where all inputs are the attacker's may leave more where one victim is, and then stands
        there. What stands with the draw unknown may fall once it is known.
        """
        if self.threat.startswith("victim"):
            beside = NOTHING if self.whole_batch is None else max(NOTHING, self.whole_batch.high)
            return self.entry.broken and self.truth.low <= beside
        return self.entry.broken or self.truth.high <= NOTHING

    @property
    def fair(self) -> bool:
        """Whether the verdict is one that the truth allows.

        ``broken`` says that next to nothing is left above what uninformative inputs leave: half of two
        classes.
        """
        if self.broken:
            return self.sense != "positive"
        nothing = max(NOTHING, self.bar) if self.verdict == "broken" else NOTHING
        return self.sense != "negative" or self.truth.low <= nothing

    @property
    def holds(self) -> bool:
        """Whether the interval holds the truth, or reaches the bounds on it from the right side."""
        if self.low is None or self.high is None:
            return True
        return self.low <= self.truth.high + SLIP and self.high >= self.truth.low


@dataclass(frozen=True)
class EvaluatedEntry:
    """An entry after its evaluation."""

    entry: ZooEntry
    known: Known
    run: Run

    @property
    def findings(self) -> list[Finding]:
        """What was found under each threat model, ``batch/unknown`` first."""
        judged = [one for one in self.run.judgements if one.case.subject.defence == self.entry.name]
        found = [self._finding(judgement) for judgement in judged]
        return sorted(found, key=lambda finding: finding.threat != "batch/unknown")

    def _finding(self, judgement: Judgement) -> Finding:
        verdict, truth = judgement.verdict, self.known.truth(str(judgement.threat))
        left = verdict.accuracy
        return Finding(
            self.entry,
            str(judgement.threat),
            verdict.name,
            verdict.reason,
            verdict.open_checks,
            None if left is None else left.low,
            None if left is None else left.estimate,
            None if left is None else left.high,
            truth,
            verdict.broken_at,
            self.known.truth("batch/unknown"),
        )


def evaluate_entry(
    name: str,
    out: Path,
    *,
    n: int | None = None,
    attacks: Sequence[str] = DEFAULT,
    listener: Listener | None = None,
    **options: Any,
) -> EvaluatedEntry:
    """Evaluates an entry with default settings, into the run folder ``out``.

    Args:
        name: of an entry of the zoo.
        n: examples; the entry's own number unless given.
        attacks: names and presets.
        options: of `EvalConfig`, in place of its defaults.

    Raises:
        InputError: the entry is refused.
        IncompleteRun: attacks on it failed.
    """
    return evaluate_known(ZOO[name], ZOO[name].load(n), out, attacks=attacks, listener=listener, **options)


def evaluate_known(
    entry: ZooEntry,
    known: Known,
    out: Path,
    *,
    attacks: Sequence[str] = DEFAULT,
    listener: Listener | None = None,
    **options: Any,
) -> EvaluatedEntry:
    """The same for a defence that is in no zoo."""
    config = EvalConfig(out=out, attacks=tuple(attacks), **options)
    config, in_memory = entry.brings(config, known)
    path = evaluate(config, listener, in_memory)
    return EvaluatedEntry(entry, known, load_run(path))


def judge_entry(name: str, out: Path, *, n: int | None = None, **options: Any) -> list[Finding]:
    """What an evaluation with default settings says of an entry, whether or not it can be finished.

    Args:
        as for `evaluate_entry`.
    """
    entry = ZOO[name]
    try:
        return evaluate_entry(name, out, n=n, **options).findings
    except IncompleteRun as incomplete:
        return EvaluatedEntry(entry, entry.load(n), load_run(incomplete.path)).findings
    except InputError as refusal:
        truth = entry.load(n).truth("batch/unknown")
        return [Finding(entry, "batch/unknown", REFUSED, str(refusal), (), None, None, None, truth)]


def gradient_evaluations(rows: pd.DataFrame) -> float:
    """Gradient evaluations per image of these rows of a run's summary; a forward is a third of one."""
    return float((rows["forwards_per_example"] + 2 * rows["backwards_per_example"]).sum() / 3)
