"""When each verdict fell in an evaluation with ``--until``, and what was spared."""

from collections.abc import Mapping, Sequence

from robustbench_coded.reports.text.formatting import budget_text, inference_text
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.stops import Sequential, Stop

STOPS_TITLE = "When the verdicts fell"
_COUNTS = ("Examples", "Batches", "Image gradients", "All would cost")


def stops_text_table(sequential: Sequential | None, judgements: Sequence[Judgement]) -> TextTable:
    """A row for each subject that stopped under a threat model and budget; none for other evaluations.

    Args:
        judgements: of the whole run. What ran after a stop may show that outcomes of a batch are more alike
            than they seemed, and open the word again; then both words are told.
    """
    heads = ("Checkpoint", "Inference", "Threat model", "Budget", "Verdict", *_COUNTS, "Ran", "Not run")
    stops = () if sequential is None else sequential.stops
    words = {(j.subject, str(j.threat), j.budget): j.verdict.word for j in judgements}
    return TextTable(heads, tuple(_row(stop, words) for stop in stops), frozenset(_COUNTS))


def stops_legend(sequential: Sequential | None) -> str:
    """How these words were decided."""
    if sequential is None:
        return ""
    ends = ", ".join(f"{end:,}" for end in sequential.rounds)
    return (
        f"Attacks ran in rounds that ended at {ends} examples, the most damaging for its cost first, until "
        "nothing that was left to run could change a verdict. Two verdicts are shown where what ran later "
        "changed the word."
    )


def _row(stop: Stop, words: Mapping[tuple[SubjectKey, str, BudgetKey], str]) -> tuple[str, ...]:
    subject = SubjectKey(stop.checkpoint, stop.defence, stop.k, stop.n)
    budget = BudgetKey(stop.norm, stop.eps, stop.eps_space)
    now = words.get((subject, stop.threat, budget), stop.word)
    return (
        stop.checkpoint,
        inference_text(subject, with_k=True),
        stop.threat,
        budget_text(budget),
        stop.word if now == stop.word else f"{stop.word}: later {now}",
        f"{stop.examples:,} of {stop.planned:,}",
        f"{stop.batches:,}",
        f"{stop.images:,}",
        f"{stop.images_planned:,}",
        ", ".join(stop.attacks),
        ", ".join(stop.spared),
    )
