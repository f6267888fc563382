"""Which rows of earlier evaluations a run folder keeps."""

import pytest
from msgspec.structs import replace

from robustbench_coded.evaluation.session.manifest import with_earlier
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Perturbation, Subject
from robustbench_coded.schema.manifest import (
    CaseRecord,
    DataFacts,
    Identity,
    Invocation,
    ProbeRecord,
    RunManifest,
)


def row(attack, n, *units):
    return CaseRecord(
        case=Case(
            Subject("net", "rci", 8, n),
            WHOLE_BATCH,
            Perturbation("linf", 0.0 if attack == "clean" else 0.1, "pixel"),
            attack,
        ),
        randomised=True,
        batch_dependent=True,
        examples_planned=100,
        draws=10,
        units=units,
    )


def manifest(*rows, attacks=("fgsm",)):
    return RunManifest(
        identity=Identity(),
        data=DataFacts(),
        checkpoints=(),
        cases=rows,
        probes=tuple(
            ProbeRecord(subject=subject)
            for subject in sorted({row.case.subject for row in rows}, key=lambda subject: subject.n)
        ),
        notes=(),
        invocations=(Invocation(options={"attacks": attacks}),),
    )


def names(manifest):
    return {(row.case.subject.n, row.case.attack) for row in manifest.cases}


def after(old, new, committed):
    """The rows and the probed sizes of an evaluation that asks for ``new``."""
    both = with_earlier(new, old, committed)
    return names(both), [probe.subject.n for probe in both.probes]


MISTAKEN = manifest(row("clean", 19, "a"), row("fgsm", 19, "b", "c"))
NOW = manifest(row("clean", 190, "d"), row("fgsm", 190, "e"))
ROWS_NOW = {(190, "clean"), (190, "fgsm")}


def test_rows_of_another_defence_without_an_outcome_leave_with_its_probe():
    assert after(MISTAKEN, NOW, {"d", "e"}) == (ROWS_NOW, [190])


def test_one_outcome_keeps_a_row_and_a_row_in_random_batches_alone_has_one():
    assert after(MISTAKEN, NOW, {"c"}) == (ROWS_NOW | {(19, "fgsm")}, [19, 190])
    scored = replace(row("fgsm", 19, "b"), random_batches=("r",))
    assert after(manifest(scored), NOW, {"r"}) == (ROWS_NOW | {(19, "fgsm")}, [19, 190])


@pytest.mark.parametrize(("committed", "kept"), [("der", ("r",)), ("de", ())])
def test_random_batches_of_the_same_inputs_stay(committed, kept):
    old = manifest(NOW.cases[0], replace(NOW.cases[1], random_batches=("r",)))
    assert with_earlier(NOW, old, set(committed)).cases[1].random_batches == kept
    more = manifest(NOW.cases[0], replace(NOW.cases[1], units=("e", "f")))
    assert with_earlier(more, old, set(committed)).cases[1].random_batches == ()


def test_an_attack_that_is_named_no_more_leaves_only_without_an_outcome():
    old = manifest(row("clean", 190, "d"), row("pgd-1000", 190, "x"), attacks=("pgd-1000",))
    assert after(old, NOW, {"d"}) == (ROWS_NOW, [190])
    assert after(old, NOW, {"d", "x"}) == (ROWS_NOW | {(190, "pgd-1000")}, [190])


def test_rows_that_are_asked_for_stay_before_their_first_outcome():
    assert after(NOW, NOW, set()) == (ROWS_NOW, [190])
