"""What the attacker controls against what he knows: the ensemble of every threat model in one table."""

from collections.abc import Sequence

from robustbench_coded.reports.text.formatting import (
    accuracy_text,
    budget_text,
    inference_text,
)
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import ENSEMBLE, STRONGEST
from robustbench_coded.schema.threat_model import RANDOMNESS, ThreatModel
from robustbench_coded.statistics.summary import SummaryRow

MATRIX = "Accuracy by what the attacker controls and knows"
MATRIX_LEGEND = (
    "Accuracy under the ensemble of each threat model with its 95% interval, and its strongest single "
    "attack. Rows: which inputs of a batch the attacker controls. Columns: whether the attacker knows the "
    "defence's draw. A dash: not run, or the defence has no draw."
)


def matrix_text_table(lines: Sequence[SummaryRow], budgets: Sequence[BudgetKey]) -> TextTable:
    """A row per subject, budget and inputs, a column for each thing to know of the draw."""
    found: dict[tuple[SubjectKey, BudgetKey, str], dict[str, SummaryRow]] = {}
    for row in lines:
        threat = row.threat
        if row.attack == ENSEMBLE and row.budget in budgets and not threat.collateral:
            found.setdefault((row.subject, row.budget, threat.inputs), {})[threat.randomness] = row
    strongest = {(x.subject, x.budget, x.threat): x for x in lines if x.attack == STRONGEST}
    rows = []
    for (subject, budget, inputs), known in found.items():
        cells = []
        for randomness in RANDOMNESS:
            best = strongest.get((subject, budget, ThreatModel(inputs, randomness)))
            cells.append(_cell(known.get(randomness), best))
        shown = inference_text(subject, with_k=True)
        rows.append((subject.checkpoint, shown, budget_text(budget), inputs, *cells))
    heads = ("Checkpoint", "Inference", "Budget", "Inputs", *(f"Draw {name}" for name in RANDOMNESS))
    return TextTable(heads, tuple(rows))


def _cell(row: SummaryRow | None, strongest: SummaryRow | None) -> str:
    if row is None or row.accuracy is None:
        return "–"
    by = f", {strongest.strongest_attack}" if strongest is not None else ""
    return f"{accuracy_text(row.accuracy, row.low, row.high)}{by}"
