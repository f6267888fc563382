"""Which rows of earlier evaluations a run folder keeps."""

from msgspec.structs import replace

from robustbench_coded.schema.manifest import (
    CaseRecord,
    DataFacts,
    Identity,
    Invocation,
    ProbeRecord,
    RunManifest,
    UnitEntry,
)
from robustbench_coded.session.manifest import kept_from


def row(attack, n, *units):
    return CaseRecord(
        checkpoint="net",
        defence="rci",
        k=8,
        n=n,
        threat="batch/unknown",
        attack=attack,
        norm="linf",
        eps=0.0 if attack == "clean" else 0.1,
        eps_space="pixel",
        step_size=None,
        randomised=True,
        batch_dependent=True,
        examples_planned=100,
        draws=10,
        units=tuple(UnitEntry(unit, 0) for unit in units),
    )


def manifest(*rows, attacks=("fgsm",)):
    return RunManifest(
        identity=Identity(),
        data=DataFacts(),
        checkpoints=(),
        rows=rows,
        probes=tuple(
            ProbeRecord(checkpoint="net", defence="rci", k=8, n=n) for n in sorted({row.n for row in rows})
        ),
        notes=(),
        invocations=(Invocation(options={"attacks": attacks}),),
    )


def after(old, new, committed):
    """The rows and the probed sizes once an evaluation has ended that asks for ``new``."""
    kept = kept_from(old, {row.subject for row in new.cases}, {row.case for row in new.cases})
    ended = kept.revealed(kept.extended_by(new), committed)
    return {(row.n, row.attack) for row in ended.rows}, [probe.n for probe in ended.probes]


MISTAKEN = manifest(row("clean", 19, "a"), row("fgsm", 19, "b", "c"))
NOW = manifest(row("clean", 190, "d"), row("fgsm", 190, "e"))
ROWS_NOW = {(190, "clean"), (190, "fgsm")}


def test_rows_of_another_defence_without_an_outcome_leave_with_its_probe():
    assert after(MISTAKEN, NOW, {"d", "e"}) == (ROWS_NOW, [190])


def test_one_outcome_keeps_a_row_and_a_row_in_random_batches_alone_has_one():
    assert after(MISTAKEN, NOW, {"c"}) == (ROWS_NOW | {(19, "fgsm")}, [19, 190])
    scored = replace(row("fgsm", 19, "b"), random_batches=(UnitEntry("r", 0),))
    assert after(manifest(scored), NOW, {"r"}) == (ROWS_NOW | {(19, "fgsm")}, [19, 190])


def test_an_attack_that_is_named_no_more_leaves_only_without_an_outcome():
    old = manifest(row("clean", 190, "d"), row("pgd-1000", 190, "x"), attacks=("pgd-1000",))
    assert after(old, NOW, {"d"}) == (ROWS_NOW, [190])
    assert after(old, NOW, {"d", "x"}) == (ROWS_NOW | {(190, "pgd-1000")}, [190])


def test_rows_that_are_asked_for_stay_before_their_first_outcome():
    assert after(NOW, NOW, set()) == (ROWS_NOW, [190])


def test_until_an_evaluation_ends_rows_of_another_defence_are_shown():
    kept = kept_from(MISTAKEN, {row.subject for row in NOW.rows}, {row.case for row in NOW.rows})
    extended = kept.extended_by(NOW)
    assert {(row.n, row.attack) for row in extended.rows} == ROWS_NOW | {(19, "clean"), (19, "fgsm")}
    assert extended.waiting == ()
