"""What the attacker controls against what he knows: the ensemble of every threat model in one table."""

from collections.abc import Sequence

from robustbench_coded.reports.run.collateral import malicious_of
from robustbench_coded.results.summary_rows import Budget, Line, Subject
from robustbench_coded.reports.text.text_table import Sheet
from robustbench_coded.reports.text.formatting import budget_words, inference_words, interval, percent

MATRIX = "What the attacker controls, and what is known of the draw"
MATRIX_LEGEND = (
    "Accuracy of each threat model's ensemble with its 95% interval, and its strongest single attack. Rows: "
    "whose inputs of a batch are the attacker's. Columns: whether the defence's draw is made after the "
    "attack or known to it. A dash: not run, or nothing there to know."
)
RANDOMNESS = ("unknown", "known")


def matrix_sheet(lines: Sequence[Line], budgets: Sequence[Budget]) -> Sheet:
    """A row per subject, budget and inputs, a column for each thing to know of the draw."""
    found: dict[tuple[Subject, Budget, str], dict[str, Line]] = {}
    for line in lines:
        inputs, _, randomness = line.threat.partition("/")
        if line.attack == "ensemble" and line.budget in budgets and malicious_of(line.threat) is None:
            found.setdefault((line.subject, line.budget, inputs), {})[randomness] = line
    strongest = {(x.subject, x.budget, x.threat): x for x in lines if x.attack == "strongest"}
    rows = []
    for (subject, budget, inputs), known in found.items():
        cells = []
        for randomness in RANDOMNESS:
            best = strongest.get((subject, budget, f"{inputs}/{randomness}"))
            cells.append(_cell(known.get(randomness), best))
        shown = inference_words(subject, with_k=True)
        rows.append((subject.checkpoint, shown, budget_words(budget), inputs, *cells))
    heads = ("Checkpoint", "Inference", "Budget", "Inputs", *(f"Draw {name}" for name in RANDOMNESS))
    return Sheet(heads, tuple(rows))


def _cell(line: Line | None, strongest: Line | None) -> str:
    if line is None or line.accuracy is None:
        return "–"
    by = f", {strongest.strongest_attack}" if strongest is not None else ""
    return f"{percent(line.accuracy)} {interval(line.low, line.high)}{by}"
