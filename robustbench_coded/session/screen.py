"""A quick look: the most damning attacks first, until the question is settled or the time is up."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.reports.text.formatting import subject_text
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import load_run
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.session.evaluate import evaluate
from robustbench_coded.session.listener import Forecast, Listener
from robustbench_coded.session.preview import preview
from robustbench_coded.session.stopped import IncompleteRun
from robustbench_coded.session.within_time import REPORT_SECONDS

# Of the time, for the first stage: its number of examples is that of all others.
FIRST_STAGE = 0.6


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
# the rest is for defences that transfer does not break, and for networks whose gradients hide something.
STAGES = (
    Stage(("pgd-20", "transfer-pgd-20"), victim_attacks=("transfer-pgd-20",)),
    Stage(("transfer-pgd-20",), inputs=("co-batch",)),
    Stage(("aware-pgd-20+init=transfer-pgd-20", "aware-pgd-20")),
    Stage(("eot10-pgd-20", "apgd-mt-20")),
    Stage(("square-1000",)),
)


class Screening:
    """Attacks in the order of ``STAGES``, each stage extending the run folder of the one before.

    The first stage runs on as many examples as fit; a later one is skipped where it is forecast to take
    longer than the time that is left.

    Args:
        config: checkpoints, defences, data and budget; its attacks are not used.
        seconds: the time for all stages.

    Attributes:
        path: the run folder, None before the first stage has ended.
        skipped: attacks for which there was no time.
        spent: seconds so far.
    """

    def __init__(self, config: EvalConfig, seconds: float = 120.0):
        self.config = config
        self.seconds = seconds
        self.path: Path | None = None
        self.skipped: tuple[str, ...] = ()
        self.spent = 0.0
        self._rows: dict[CaseKey, None] = {}

    def run(self, listener: Listener | None = None) -> Path:
        """Runs stages until the question is settled or the time is up; returns the run folder.

        Raises:
            InputError, IncompleteRun, RunStopped, KeyboardInterrupt: as ``evaluate``.
        """
        listener = _Watching(listener or Listener(), self._rows)
        started = time.monotonic()
        path = self._stage(replace(self._config(STAGES[0]), time=FIRST_STAGE * self.seconds), listener)
        for stage in STAGES[1:]:
            if self.settled:
                break
            config = replace(self._config(stage), limit=load_run(path).manifest.identity.limit)
            left = self.seconds - (time.monotonic() - started) - REPORT_SECONDS
            if left <= 0 or preview(config).forecast.seconds > left:
                self.skipped += tuple(attack for attack in stage.attacks if attack not in self.skipped)
            else:
                path = self._stage(config, listener)
        self.spent = time.monotonic() - started
        return path

    def _config(self, stage: Stage) -> EvalConfig:
        return replace(
            self.config,
            attacks=stage.attacks,
            inputs=stage.inputs,
            victim_attacks=stage.victim_attacks,
            out=self.path or self.config.out,
            overwrite=self.config.overwrite and self.path is None,
        )

    def _stage(self, config: EvalConfig, listener: Listener) -> Path:
        try:
            self.path = evaluate(config, listener)
        except IncompleteRun as incomplete:
            self.path = incomplete.path  # what did run can still be told
            raise
        return self.path

    @property
    def tried(self) -> tuple[str, ...]:
        """Attacks that ran in this screening, those of its controls and resubmissions left out."""
        asked = {attack for stage in STAGES for attack in (*stage.attacks, *stage.victim_attacks)}
        return tuple(dict.fromkeys(key.attack for key in self._rows if key.attack in asked))

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """One for each subject of this screening, standard inference too, under all inputs attacked and an
        unknown draw; other subjects of the same run folder are left out.
        """
        own = {key.subject for key in self._rows}
        found = load_run(self.path).judgements if self.path is not None else ()
        return tuple(j for j in found if j.threat == WHOLE_BATCH and j.subject in own)

    @property
    def settled(self) -> bool:
        """Whether every defence has an answer that more attacks can't change."""
        return all(j.verdict.word.settles for j in self.judgements)

    def lines(self) -> list[str]:
        """What was tried, then a line for each subject that ends in its verdict."""
        assert self.path is not None
        tried = f"Tried in {self.spent:.0f} s: {', '.join(self.tried)}."
        left = [attack for attack in self.skipped if attack not in self.tried]
        skipped = f" No time was left for {', '.join(left)}." if left else ""
        more = len({row.key for row in load_run(self.path).rows if row.measured} - set(self._rows))
        earlier = f" The folder holds {more} more rows, which the verdicts include." if more else ""
        subjects = [
            f"{subject_text(j.subject, with_k=True)}, {j.threat}: {j.verdict.reason} "
            f"Verdict: {j.verdict.word}."
            for j in self.judgements
        ]
        return [f"{tried}{skipped}{earlier}", *subjects, f"All rows: {self.path}/report.html"]


class _Watching(Listener):
    """Passes on what it hears, and remembers the rows of every plan."""

    def __init__(self, listener: Listener, rows: dict[CaseKey, None]):
        self._listener = listener
        self._rows = rows

    def note(self, text: str) -> None:
        self._listener.note(text)

    def preparing(self, text: str) -> None:
        self._listener.preparing(text)

    def opened(self, path: Path) -> None:
        self._listener.opened(path)

    def stopping(self) -> None:
        self._listener.stopping()

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        self._rows.update(dict.fromkeys(row.key for row in plan.rows))
        self._listener.planned(plan, forecast)

    def inputs_made(self, unit: Unit, number: int) -> None:
        self._listener.inputs_made(unit, number)

    def unit_done(self, unit: Unit, correct: int, scored: int) -> None:
        self._listener.unit_done(unit, correct, scored)

    def unit_failed(self, unit: Unit, error: str) -> None:
        self._listener.unit_failed(unit, error)
