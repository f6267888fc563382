"""What a report says beside its answer: where a gradient is lost, and what is missing."""

import pytest

from robustbench_coded.reports.run.methodology import hidden_gradients, remarks_on
from robustbench_coded.run import load_run
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import DataFacts, Identity, ProbeRecord, RunManifest


def said(*met, **figures):
    operators = tuple({"operator": name, "calls": 1, "cut": 1.0, "scale": None} for name in met)
    probe = ProbeRecord(subject=Subject("erm", "blur", None, None), figures=figures, hidden_by=operators)
    manifest = RunManifest(
        identity=Identity(),
        data=DataFacts(),
        checkpoints=(),
        cases=(),
        notes=(),
        invocations=(),
        probes=(probe,),
    )
    return hidden_gradients(manifest)


@pytest.mark.parametrize("met", [("detach", "numpy"), ("numpy",), ("numpy", "round"), ()])
def test_a_defence_that_leaves_torch_is_told_so(met):
    (sentence,) = said(*met, no_gradient=True)
    assert sentence.startswith("blur on erm: its answers leave torch, through numpy or other code")
    assert "detach" not in sentence
    assert ("round" in sentence) == ("round" in met)


def test_a_gradient_that_is_there_is_not_told_to_be_lost():
    assert said(no_gradient=False) == []
    assert said(no_gradient="x") == []


def test_a_run_that_was_stopped_and_one_that_lacks_outcomes_say_so(make_run):
    assert remarks_on(load_run(make_run())) == []
    stopped = remarks_on(load_run(make_run("stopped", finished=False, missing=[("fgsm", "rci")])))
    assert stopped[0].startswith("1 of 13 planned cases lacks outcomes")
