"""When each verdict fell in an evaluation with ``--until``, and what was spared."""

from robustbench_coded.reports.text.formatting import budget_text, inference_text
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.stops import Sequential, Stop

STOPS_TITLE = "When the verdicts fell"
_COUNTS = ("Examples", "Batches", "Image gradients", "All would cost")


def stops_text_table(sequential: Sequential | None) -> TextTable:
    """A row for each subject that stopped under a threat model and budget; none for other evaluations."""
    heads = ("Checkpoint", "Inference", "Threat model", "Budget", "Verdict", *_COUNTS, "Ran", "Not run")
    stops = () if sequential is None else sequential.stops
    return TextTable(heads, tuple(map(_row, stops)), frozenset(_COUNTS))


def stops_legend(sequential: Sequential | None) -> str:
    """How these words were decided."""
    if sequential is None:
        return ""
    ends = ", ".join(f"{end:,}" for end in sequential.rounds)
    open_ones = sequential.questions - len(sequential.stops)
    what = "a word" if sequential.until == "settled" else "the claim"
    rest = f" {open_ones} of {sequential.questions} did not stop and ran to the end." if open_ones else ""
    return (
        f"--until {sequential.until}: attacks ran in rounds that ended at {ends} examples, and stopped where "
        f"nothing could change {what} any more.{rest} Intervals hold at all looks together, and the words of "
        f"all {sequential.questions} questions with 95%. No praise is given before everything has run."
    )


def _row(stop: Stop) -> tuple[str, ...]:
    subject = SubjectKey(stop.checkpoint, stop.defence, stop.k, stop.n)
    return (
        stop.checkpoint,
        inference_text(subject, with_k=True),
        stop.threat,
        budget_text(BudgetKey(stop.norm, stop.eps, stop.eps_space)),
        stop.word,
        f"{stop.examples:,} of {stop.planned:,}",
        f"{stop.batches:,}",
        f"{stop.images:,}",
        f"{stop.images_planned:,}",
        ", ".join(stop.attacks),
        ", ".join(stop.spared),
    )
