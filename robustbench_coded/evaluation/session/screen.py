"""A quick look: the most damning attacks first, until the question is settled or the time is up."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import IncompleteRun, evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.reports.text.formatting import subject_text
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import load_run
from robustbench_coded.schema.threat_model import WHOLE_BATCH


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


class Screening:
    """Attacks in the order of ``STAGES``, each stage extending the run folder of the one before.

    Args:
        config: checkpoints, defences, data and budget; its attacks are not used.
        seconds: no stage begins after this.

    Attributes:
        path: the run folder, None before the first stage has ended.
        tried: attacks that ran.
        spent: seconds so far.
    """

    def __init__(self, config: EvalConfig, seconds: float = 120.0):
        self.config = config
        self.seconds = seconds
        self.path: Path | None = None
        self.tried: tuple[str, ...] = ()
        self.spent = 0.0

    def run(self, listener: Listener | None = None) -> Path:
        """Runs stages until the question is settled or the time is up; returns the run folder.

        Raises:
            InputError, IncompleteRun, RunStopped, KeyboardInterrupt: as ``evaluate``.
        """
        started = time.monotonic()
        path = self._stage(STAGES[0], listener)
        for stage in STAGES[1:]:
            self.spent = time.monotonic() - started
            if self.settled or self.spent > self.seconds:
                break
            path = self._stage(stage, listener)
        self.spent = time.monotonic() - started
        return path

    def _stage(self, stage: Stage, listener: Listener | None) -> Path:
        config = replace(
            self.config,
            attacks=stage.attacks,
            inputs=stage.inputs,
            victim_attacks=stage.victim_attacks,
            overwrite=self.config.overwrite and self.path is None,
        )
        try:
            self.path = evaluate(config, listener)
        except IncompleteRun as incomplete:
            self.path = incomplete.path  # what did run can still be told
            raise
        finally:
            self.tried = tuple(dict.fromkeys((*self.tried, *stage.attacks)))
        return self.path

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """One for each subject, standard inference too, under all inputs attacked and an unknown draw."""
        found = load_run(self.path).judgements if self.path is not None else ()
        return tuple(j for j in found if j.threat == WHOLE_BATCH)

    @property
    def settled(self) -> bool:
        """Whether every defence has an answer that more attacks can't change."""
        return all(j.verdict.word.settles for j in self.judgements)

    def paragraph(self) -> str:
        """The finding in a few sentences, ending in the verdicts."""
        parts = [
            f"{subject_text(j.subject, with_k=True)}, {j.threat}: {j.verdict.reason} "
            f"Verdict: {j.verdict.word}."
            for j in self.judgements
        ]
        tried = f"Tried in {self.spent:.0f} s: {', '.join(self.tried)}. "
        return tried + " ".join(parts) + f" All rows: {self.path}/report.md"
