"""The terms that the tables of a run use, each in a sentence; docs/glossary.md has all of them."""

from collections.abc import Iterator

from robustbench_coded.reports.run.methodology import Fact
from robustbench_coded.reports.text.formatting import percent, threat_text
from robustbench_coded.results.run import Run
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.judge import MARGIN

GLOSSARY = "docs/glossary.md"
_WORDS = {
    VerdictWord.WORSE_THAN_BASE: "the upper end of the gain is below 0.",
    VerdictWord.NO_GAIN: "the upper end of the gain is below the margin.",
    VerdictWord.BROKEN: "the upper end of the accuracy is at most a twentieth of the clean accuracy above "
    "what uninformative inputs leave.",
    VerdictWord.NO_FAILURE_FOUND: "the lower end of the gain is above the margin (without a bare network "
    "to compare with: that of the accuracy is above what counts as broken), and every check passed. An upper "
    "bound, never a proof.",
    VerdictWord.NOT_SETTLED: "none of these can be said yet.",
    VerdictWord.CLAIM_REFUTED: "the upper end of the claimed accuracy is below the claim.",
}


def terms_of(run: Run) -> Iterator[Fact]:
    """Terms of the tables, then the threat models and verdicts that the run has."""
    rows = run.manifest.rows
    yield Fact("Accuracy", "the share of right answers, in percent; the mean over images and draws.")
    yield Fact(
        "Interval",
        "in brackets; each end errs with probability 2.5%. It is about other images like these. Where inputs "
        "are answered together and were scored in random batches, it is about these images in any batches, "
        "and 'Other images' stands beside it.",
    )
    if any(row.k is not None for row in rows):
        yield Fact("K, N", "K inputs are answered together; coded inference answers N mixtures of them.")
    if any(row.randomised for row in rows):
        yield Fact(
            "Draw", "one sample of a defence's random numbers; figures use draws made after the attack."
        )
    yield Fact(
        "Ensemble",
        "all attacks together: the attack that is lowest for each image (for each batch, where inputs are "
        "answered together), chosen on other draws than it is scored on. It decides the verdict.",
    )
    yield Fact(
        "Resubmitted", "the lowest of all perturbed inputs that were made elsewhere (from:SUBJECT/ATTACK)."
    )
    yield Fact("Gain", "accuracy under the ensemble, less that of the bare network under its own ensemble.")
    yield Fact("Clean accuracy given up", "clean accuracy of the bare network, less that of the defence.")
    for threat in dict.fromkeys(row.threat for row in run.rows):
        yield Fact("Threat model", f"{threat}: {threat_text(threat)}.")
    margin = run.manifest.last.margin
    for word in dict.fromkeys(judgement.verdict.word for judgement in run.judgements):
        yield Fact("Verdict", f"{word}: {_WORDS[word]}")
    yield Fact(
        "Margin", f"the smallest gain that counts: {percent(MARGIN if margin is None else margin)} points."
    )
    yield Fact("All terms", f"{GLOSSARY} of csrobust.")
