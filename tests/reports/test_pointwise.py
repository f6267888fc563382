"""Verdicts are pointwise: nothing is shared between them."""

from robustbench_coded.judge.judgements import judgements_of
from robustbench_coded.judge.run import load_run


def test_what_else_is_judged_moves_no_interval(make_run, subject):
    """A verdict is the same alone and among others, whatever a manifest says that verdicts share."""
    alone = [subject("a"), subject("a", "rci", 32, 48)]
    many = [*alone, *(s for name in "bcd" for s in (subject(name), subject(name, "rci", 32, 48)))]
    stored = {"sequential": {"until": "settled", "sample_sizes": [128], "verdicts_sharing": 4}}

    def of_first(name, subjects, **changes):
        run = load_run(make_run(name, subjects=subjects, changes=changes))
        found = judgements_of(run.results, run.manifest)
        return [
            (str(one.threat), one.verdict.accuracy, one.verdict.gain)
            for one in found
            if one.subject.checkpoint == "a"
        ]

    first = of_first("alone", alone)
    assert first and first == of_first("many", many) == of_first("shared", many, **stored)
