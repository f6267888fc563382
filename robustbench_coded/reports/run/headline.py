"""How a report begins: one sentence with the figures that matter most, then the words of all judgements."""

from collections.abc import Callable, Sequence

from robustbench_coded.reports.run.answer import answer
from robustbench_coded.reports.run.undercuts import Undercut
from robustbench_coded.reports.text.formatting import budget_text, series, subject_text
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.schema.words import VerdictWord

MOST_NAMED = 3
Together = Callable[[Sequence[Judgement]], Sequence[str]]


def headline(judgements: Sequence[Judgement], undercuts: Sequence[Undercut], together: Together) -> list[str]:
    """Two or three sentences, one where there is nothing to say.

    The first is about the largest undercut of a judgement that is settled, else about the largest, else about
    the first judgement. All of its figures belong to one threat model. Its word stands at the error adjusted
    for the number of judgements, since it was picked out of them.

    Args:
        judgements: of the whole run; those of standard inference count only where nothing else was judged.
        undercuts: where stronger attacks undercut the paper's, the largest first.
        together: the words of several judgements with the error adjusted for their number.
    """
    judged = [j for j in judgements if j.subject.defence != "standard"] or list(judgements)
    if not judged:
        return ["There is no verdict: no attack that gets one has outcomes."]
    words = together(judged)
    counted = _each(judged) if len(judged) <= MOST_NAMED else _counted(judged, words)
    named = {j.key.setting: (j, word) for j, word in zip(judged, words, strict=True)}
    alike = [u for u in undercuts if u.same_threat and u.stronger.key.setting in named]
    told = [(*named[u.stronger.key.setting], u) for u in alike]
    for judgement, word, undercut in sorted(told, key=lambda one: one[1] == VerdictWord.NOT_SETTLED)[:1]:
        return [answer(judgement, word, len(judged), undercut), counted]
    return [answer(judged[0], words[0], len(judged)), counted, _reason(judged[0])]


def _each(judged: Sequence[Judgement]) -> str:
    """``no gain for RCI (N = 190) on erm under batch/unknown; not settled for ...``"""
    words = [f"{j.verdict.word} for {subject_text(j.subject)} under {j.threat}" for j in judged]
    return f"Verdict: {'; '.join(words)}."


def _counted(judged: Sequence[Judgement], words: Sequence[str]) -> str:
    """Counts hold together, so each word is one that stands at the error adjusted for their number."""
    subjects = len({j.subject for j in judged})
    threats = series(sorted({str(j.threat) for j in judged}))
    said = (
        f"Verdict: of {len(judged)} judgements ({subjects} subjects under {threats}), {_counts(words)}, with "
        "the error adjusted for their number (Holm)"
    )
    alone = [j.verdict.word for j in judged]
    return f"{said}." if list(words) == alone else f"{said}; one by one, {_counts(alone)}."


def _counts(words: Sequence[str]) -> str:
    return series([f"{word} in {list(words).count(word)}" for word in dict.fromkeys(words)])


def _reason(judgement: Judgement) -> str:
    where = f"{subject_text(judgement.subject)} under {judgement.threat} ({budget_text(judgement.budget)})"
    return f"{where}: {judgement.verdict.reason}"
