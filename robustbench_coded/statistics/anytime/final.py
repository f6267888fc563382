"""Which words nothing that is still to come can change.

    is_final(verdict, base_low, planned) -> bool

Attacks only take right answers away. So a defence that is broken stays broken, and a refuted claim stays
refuted. The lack of a gain is final where the defence keeps less than the margin, whatever its base model
keeps in the end; unless the base model keeps so much that the word could become `worse than its base`. Praise
is never final before every attack and every check has run.
"""

from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.clustered import clopper_pearson
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.verdict import Verdict


def is_final(verdict: Verdict, base_low: float, planned: int) -> bool:
    """Whether no attack that is left, on the defence or on its base model, can change the word.

    Args:
        verdict: at an error that holds for all looks and all subjects.
        base_low: lower end of what the base model keeps so far; 0 without one.
        planned: examples that are evaluated if nothing stops; the least that a loss must exceed to be
            certain.
    """
    if verdict.word == VerdictWord.CLAIM_REFUTED or (
        verdict.word == VerdictWord.BROKEN and not verdict.compared
    ):
        return True
    if verdict.word != VerdictWord.NO_GAIN or verdict.accuracy is None:
        return False
    could_lose = base_low > clopper_pearson(0, planned, TAIL)[1]
    return verdict.accuracy.high < verdict.bar and not could_lose
