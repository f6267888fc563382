"""A bound on accuracy under attack as an assertion, for the tests of a training project."""

import tempfile
from contextlib import ExitStack
from typing import Any, Unpack

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.typed import EvaluateOptions
from robustbench_coded.evaluation.session.from_python import evaluate
from robustbench_coded.judge.tried import asserted, nothing_asserted, untried
from robustbench_coded.options.option import number
from robustbench_coded.options.values import read_number
from robustbench_coded.schema.words import ENSEMBLE

WIDEST = 0.2  # an interval wider than this neither passes nor fails anything


def assert_accuracy_under_attack(
    model: Any,
    data: Any = "auto",
    *,
    at_least: float,
    **options: Unpack[EvaluateOptions],
) -> None:
    """Fails if robust accuracy is significantly below ``at_least``.

    The assertion fails if the upper 95% confidence limit of the accuracy under all attacks is below
    ``at_least``. Passing is no proof: a stronger attack may exist.

        def test_my_network_withstands_small_changes():
            assert_accuracy_under_attack(model, (x, y), eps=8/255, at_least=0.4, limit=256)

    Args:
        model, data, options: those of `evaluate`, for one model, norm and eps. With ``defences=[...]`` the
            assertion is about each of them instead of the model. The run folder is removed again unless
            ``out`` names one.
        at_least: accuracy, a fraction in [0, 1].

    Raises:
        AssertionError: an upper limit is below ``at_least``; one line names the attack and the accuracy.
        InputError: ``at_least`` is no fraction; an attack was not tried, or gave results that can't be scored
            (`judge.tried`); or an interval is wider than 20 points: give more images.
    """
    at_least = read_number(at_least, "at_least", number(0, 1))
    with ExitStack() as cleanup:
        if "out" not in options:
            options["out"] = cleanup.enter_context(tempfile.TemporaryDirectory())
        options.setdefault("overwrite", True)
        run = evaluate(model, data, **options)
        judgements, missing = asserted(run.judgements), untried(run)
    known = [(judgement, a) for judgement in judgements if (a := judgement.verdict.accuracy) is not None]
    for judgement, accuracy in known:  # another attack would leave no more
        if accuracy.high < at_least:
            place = f"{judgement.name}: {judgement.accuracy_text}"
            raise AssertionError(f"{place} (the {ENSEMBLE} of attacks), expected at least {at_least:.1%}")
    for subject, reason in missing:
        raise InputError(nothing_asserted(subject, reason))
    for judgement, accuracy in known:
        if accuracy.high - accuracy.low > WIDEST:
            place = f"{judgement.name}: {judgement.accuracy_text}"
            raise InputError(
                f"{place}: an interval wider than {WIDEST:.0%} asserts nothing; give more images or draws"
            )
