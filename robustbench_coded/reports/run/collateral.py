"""Collateral damage: how far a few malicious inputs of a batch harm those that nobody touches."""

from collections.abc import Iterator, Sequence

from robustbench_coded.results.summary_rows import Budget, Line, Subject
from robustbench_coded.reports.text.text_table import Sheet
from robustbench_coded.reports.text.formatting import budget_words, inference_words, interval, percent, subject_words

COLLATERAL = "Collateral damage"
COLLATERAL_LEGEND = (
    "Accuracy of the inputs that nobody touches, in batches in which so many others are malicious: moved "
    "within eps, or anywhere in [0, 1], to raise the loss of the untouched ones. Which inputs are malicious "
    "is chosen at random, those of 2 among those of 4. Ensemble of the attacks that ran; clean: the same "
    "inputs where nobody is malicious."
)


def malicious_of(threat: str) -> tuple[int, bool] | None:
    """How many inputs are malicious, and whether they may go anywhere; None for another threat model."""
    name, _, rest = threat.partition("/")[0].partition("-")
    count, _, where = rest.partition("-")
    return (int(count), where == "box") if name == "collateral" and count.isdecimal() else None


def collateral_sheet(lines: Sequence[Line]) -> Sheet:
    """A row per subject, budget, number of malicious inputs and what they know; no rows without any."""
    heads = ("Checkpoint", "Inference", "Budget", "Draw", "Malicious", "Clean", "Within eps", "Anywhere")
    rows = []
    for (subject, budget, draw, count), found in _found(lines).items():
        within, anywhere = found.get(False), found.get(True)
        clean = next(line.clean_accuracy for line in (within, anywhere) if line is not None)
        rows.append(
            (
                subject.checkpoint,
                inference_words(subject, with_k=True),
                budget_words(budget),
                draw,
                str(count),
                percent(clean),
                _accuracy(within),
                _accuracy(anywhere),
            )
        )
    return Sheet(heads, tuple(rows), frozenset(heads[4:]))


def collateral_findings(lines: Sequence[Line]) -> Iterator[str]:
    """What the fewest and the most malicious inputs did to each subject, at their worst."""
    groups: dict[tuple[Subject, Budget], dict[int, Line]] = {}
    for (subject, budget, draw, count), found in _found(lines).items():
        if draw == "unknown":
            worst = min(found.values(), key=lambda line: line.accuracy or 0.0)
            groups.setdefault((subject, budget), {})[count] = worst
    for (subject, budget), by_count in groups.items():
        said = []
        for count in dict.fromkeys((min(by_count), max(by_count))):
            line = by_count[count]
            said.append(
                f"{count} of {subject.k} inputs, malicious {_where(line, budget)}, leave the others at "
                f"{percent(line.accuracy)}% {interval(line.low, line.high)}, clean "
                f"{percent(line.clean_accuracy)}%"
            )
        yield f"{subject_words(subject, with_k=True)}: {'; '.join(said)}."


def _found(lines: Sequence[Line]) -> dict[tuple[Subject, Budget, str, int], dict[bool, Line]]:
    """Ensembles by what was attacked, and by whether malicious inputs may go anywhere."""
    found: dict[tuple[Subject, Budget, str, int], dict[bool, Line]] = {}
    for line in lines:
        malicious = malicious_of(line.threat)
        if malicious is not None and line.attack == "ensemble" and line.accuracy is not None:
            count, anywhere = malicious
            key = line.subject, line.budget, line.threat.partition("/")[2], count
            found.setdefault(key, {})[anywhere] = line
    return found


def _accuracy(line: Line | None) -> str:
    if line is None:
        return ""
    return f"{percent(line.accuracy)} {interval(line.low, line.high)}"


def _where(line: Line, budget: Budget) -> str:
    malicious = malicious_of(line.threat)
    return "anywhere in [0, 1]" if malicious and malicious[1] else f"within {budget_words(budget)}"
