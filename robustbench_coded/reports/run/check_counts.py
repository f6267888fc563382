"""How many checks of each judgement passed, and which did not."""

from collections.abc import Sequence

from robustbench_coded.reports.text.formatting import budget_text, inference_text
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.schema.words import CheckOutcome

_COUNTED = (CheckOutcome.PASSED, CheckOutcome.FAILED, CheckOutcome.NOT_RUN)
_NUMBERS = ("Passed", "Failed", "Not run")


def check_count_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """A row per judgement: its checks by outcome, and the names of those that failed."""
    rows = []
    for judgement in judgements:
        outcomes = [check.outcome for check in judgement.checks]
        failed = [check.name for check in judgement.checks if check.outcome == CheckOutcome.FAILED]
        rows.append(
            (
                judgement.subject.checkpoint,
                inference_text(judgement.subject, with_k=True),
                str(judgement.threat),
                budget_text(judgement.budget),
                *(str(outcomes.count(outcome)) for outcome in _COUNTED),
                ", ".join(failed),
            )
        )
    heads = ("Checkpoint", "Inference", "Threat", "Budget", *_NUMBERS, "Failed checks")
    return TextTable(heads, tuple(rows), frozenset(_NUMBERS))
