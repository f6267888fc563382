"""Scoring and attacks get the same answers, whatever a user defence's code can see."""

import sys

import pytest
import torch

from robustbench_coded.defences.rci import RCI
from robustbench_coded.evaluation.session.selftesting import answers_alike
from tests.evaluation.selftests.conftest import EXAMPLES, Plain
from tests.evaluation.selftests.test_liars import HONEST


def result(world, defence, k=EXAMPLES):
    return answers_alike(world.scene(defence, k), defence, 0, list(range(EXAMPLES // k)))


@pytest.mark.parametrize("name", HONEST)
def test_honest_defences_answer_both_alike(world, name):
    defence = HONEST[name](world.model)
    defence = defence if hasattr(defence, "logits") else Plain(defence)
    k = 8 if name == "rci on small batches" else EXAMPLES
    assert result(world, defence, k).outcome == "passed"


def test_another_draw_would_be_seen(world):
    defence = RCI(world.model, EXAMPLES, 48)
    assert answers_alike(world.scene(defence), defence, 1, [0]).outcome == "failed"


def called_by_scoring(x):
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "predictions":
        frame = frame.f_back
    return frame is not None


@pytest.mark.parametrize("is_scoring", [called_by_scoring, lambda x: not x.requires_grad])
def test_a_defence_that_knows_who_asks_or_how_scoring_asks_fails(world, is_scoring):
    def answer(x):
        return torch.nn.functional.one_hot(world.y, 10).float() if is_scoring(x) else world.model(x)

    found = result(world, Plain(answer))
    assert found.outcome == "failed" and found.figures["moved"] > 0.1


def test_an_input_without_an_answer_has_none_either_way(world):
    def lost(x, where):
        logits = world.model(x)
        logits[where] *= torch.nan
        return logits

    assert result(world, Plain(lambda x: lost(x, 3))).outcome == "passed"
    found = result(world, Plain(lambda x: lost(x, 3 if x.requires_grad else 5)))
    assert found.outcome == "failed" and found.figures["moved"] > 0.1
