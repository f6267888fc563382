"""The verdict of a whole run in two sentences: the first counts, the second tells the largest figure."""

from collections.abc import Sequence

from robustbench_coded.reports.text.formatting import budget_text, series, subject_text
from robustbench_coded.results.judgements import Judgement

MOST_NAMED = 3


def headline(judgements: Sequence[Judgement], findings: Sequence[str]) -> list[str]:
    """Two sentences, fewer where a run has less to say.

    Args:
        judgements: of the whole run; those of standard inference count only where nothing else was judged.
        findings: sentences on stronger attacks that undercut the paper's, if any.
    """
    judged = [j for j in judgements if j.subject.defence != "standard"] or list(judgements)
    if not judged:
        return ["No attack has outcomes yet, so there is nothing to judge."]
    first = _each(judged) if len(judged) <= MOST_NAMED else _counted(judged)
    return [first, findings[0] if findings else _reason(judged[0])]


def _each(judged: Sequence[Judgement]) -> str:
    """``no gain for RCI (N = 190) on erm under batch/unknown; not settled for ...``"""
    words = [f"{j.verdict.word} for {subject_text(j.subject)} under {j.threat}" for j in judged]
    return f"Verdict: {'; '.join(words)}."


def _counted(judged: Sequence[Judgement]) -> str:
    by_word: dict[str, list[Judgement]] = {}
    for judgement in judged:
        by_word.setdefault(judgement.verdict.word, []).append(judgement)
    counts = [f"{word} in {len(found)}" for word, found in by_word.items()]
    subjects = len({j.subject for j in judged})
    threats = series(sorted({str(j.threat) for j in judged}))
    return f"Verdict: of {len(judged)} judgements ({subjects} subjects under {threats}), {series(counts)}."


def _reason(judgement: Judgement) -> str:
    where = f"{subject_text(judgement.subject)} under {judgement.threat} ({budget_text(judgement.budget)})"
    return f"{where}: {judgement.verdict.reason}"
