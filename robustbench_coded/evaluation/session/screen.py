"""A quick look: the most damning attacks first, until the question is settled or the time is up."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.reports.text.formatting import subject_words
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import load_run

SETTLED = ("no gain", "broken", "claim refuted")


@dataclass(frozen=True)
class Stage:
    """One step of a screening.

    Attributes:
        attacks: what is run.
        inputs: whose inputs are the attacker's.
        victim_attacks: what also runs against one victim among clean inputs.
    """

    attacks: tuple[str, ...]
    inputs: tuple[str, ...] = ("batch",)
    victim_attacks: tuple[str, ...] = ()


# Transfer needs no gradient of the defence and one victim; copies take away all that co-batched inputs add;
# the rest is for defences that transfer does not break. Standard inference gets the same optimiser.
STAGES = (
    Stage(("pgd-20", "transfer-pgd-20"), victim_attacks=("transfer-pgd-20",)),
    Stage(("transfer-pgd-20",), inputs=("co-batch",)),
    Stage(("aware-pgd-20+init=transfer-pgd-20", "aware-pgd-20")),
    Stage(("eot10-pgd-20",)),
)


@dataclass(frozen=True)
class Screening:
    """What a screening found.

    Attributes:
        path: the run folder.
        judgements: one for each defence, under all inputs attacked and an unknown draw.
        tried: attacks that ran.
        seconds: how long it took.
    """

    path: Path
    judgements: tuple[Judgement, ...]
    tried: tuple[str, ...]
    seconds: float

    @property
    def settled(self) -> bool:
        """Whether every defence has an answer that more attacks can't change."""
        return all(j.verdict.word in SETTLED for j in self.judgements)

    def paragraph(self) -> str:
        """The finding in a few sentences, ending in the verdicts."""
        attacks = ", ".join(self.tried)
        parts = [
            f"{subject_words(j.subject, with_k=True)}, {j.threat}: {j.verdict.reason} "
            f"Verdict: {j.verdict.word}."
            for j in self.judgements
        ]
        return f"Tried in {self.seconds:.0f} s: {attacks}. " + " ".join(parts)


def screen(config: EvalConfig, listener: Listener | None = None, *, seconds: float = 120.0) -> Screening:
    """Attacks in the order of ``STAGES``, each stage extending the run folder of the one before.

    Args:
        config: checkpoints, defences, data and budget; its attacks are not used.
        seconds: no stage begins after this.

    Raises:
        InputError: the options are not usable.
    """
    started = time.monotonic()
    screening: Screening | None = None
    for i, stage in enumerate(STAGES):
        if screening is not None and (screening.settled or time.monotonic() - started > seconds):
            break
        staged = replace(
            config,
            attacks=stage.attacks,
            inputs=stage.inputs,
            victim_attacks=stage.victim_attacks,
            overwrite=config.overwrite and i == 0,
        )
        path = evaluate(staged, listener)
        tried = (*(screening.tried if screening else ()), *stage.attacks)
        screening = Screening(
            path, tuple(_judged(path)), tuple(dict.fromkeys(tried)), time.monotonic() - started
        )
    assert screening is not None
    return screening


def _judged(path: Path) -> Iterator[Judgement]:
    for judgement in load_run(path).judgements:
        if judgement.threat == "batch/unknown" and judgement.subject.defence != "standard":
            yield judgement
