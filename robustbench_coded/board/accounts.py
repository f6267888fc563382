"""What AutoAttack reports of a defence by its own rules, from its own run or from one made for that."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from robustbench_coded.reports.text.formatting import parsed_attack
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.summary import SummaryRow


class Account(NamedTuple):
    """The lowest share that a suite says is left, the suite, and of how many inputs."""

    share: float
    attack: str
    examples: int


class Accounts:
    """The accounts of several runs, found by data, weights, defence and budget.

    Args:
        runs: of which one that has a defence under other attacks, too, speaks for it before all others.
    """

    def __init__(self, runs: Iterable[Run]):
        self._found: dict[tuple[Any, ...], Account] = {}
        self._of_run: dict[tuple[Any, ...], Account] = {}
        for run in runs:
            for row in run.rows:
                account = _account(run, row)
                if account is not None:
                    at = _place(run, row)
                    self._found[at] = min(account, self._found.get(at, account))
                    self._of_run[run.path, *at] = min(account, self._of_run.get((run.path, *at), account))

    def of(self, run: Run, rows: Sequence[SummaryRow]) -> Account | None:
        """The account of the subject and budget of ``rows``, of which one setting is judged in ``run``."""
        attacked = next((row for row in rows if row.key.eps and str(row.threat) == str(WHOLE_BATCH)), None)
        if attacked is None:
            return None
        at = _place(run, attacked)
        return self._of_run.get((run.path, *at), self._found.get(at))


def only_accounts(run: Run, subject: SubjectKey) -> bool:
    """Whether AutoAttack alone was run on a subject, so that the run has nothing to judge it by."""
    attacks = {case.attack for case in run.manifest.rows if case.subject == subject} - set(CONTROLS)
    return all(_is_autoattack(attack) for attack in attacks if not attack.startswith("from:"))


def _account(run: Run, row: SummaryRow) -> Account | None:
    if not _is_autoattack(row.attack) or str(row.threat) != str(WHOLE_BATCH) or not row.done:
        return None
    counts = run.counts_of(row.key)
    inputs = counts.get("peer_inputs")
    return Account(counts["peer_standing"] / inputs, row.attack, int(inputs)) if inputs else None


def _is_autoattack(attack: str) -> bool:
    name = parsed_attack(attack)
    return name is not None and name.third_party == "autoattack"


def _place(run: Run, row: SummaryRow) -> tuple[Any, ...]:
    subject = row.subject
    checkpoint = run.manifest.checkpoint(subject.checkpoint)
    weights = None if checkpoint is None else checkpoint.sha256
    return (
        run.manifest.identity.data, weights, subject.defence, subject.k, subject.n,
        row.key.norm, row.key.eps, row.key.eps_space,
    )  # fmt: skip
