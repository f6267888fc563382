"""Votes in integers, and classes that are ruled out by -inf, are answers."""

import torch
from torch import nn

from robustbench_coded.defences.per_batch import as_logits
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.sampling import SamplingModule

INF, NAN = torch.inf, torch.nan


def test_a_class_without_votes_is_below_the_others_and_the_answer_stays():
    votes = torch.tensor([[12.0, 4.0, 0.0], [0.0, 0.0, 16.0]])
    answers = as_logits((votes / 16).log())
    assert answers.isfinite().all()
    assert answers.argmax(1).tolist() == [0, 2]
    torch.testing.assert_close(answers[0], torch.tensor([0.75, 0.25, 0.25 / torch.e]).log())


def test_what_is_no_answer_stays_none():
    wrong = torch.tensor([[NAN, -INF, 0.0], [INF, 1.0, -INF], [-INF, -INF, -INF]])
    assert not as_logits(wrong).isfinite().all(1).any()
    assert as_logits("a word") == "a word"
    assert as_logits(torch.tensor([3, 1])).dtype == torch.int64  # labels, of which no logits can be made


def test_integers_are_counted_on():
    assert as_logits(torch.tensor([[3, 1]])).dtype == torch.float32


def test_finite_logits_are_handed_on_as_they_are():
    logits = torch.randn(4, 3)
    assert as_logits(logits) is logits


def test_a_slope_leads_through_the_classes_that_are_left():
    x = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    masked = x.masked_fill(torch.tensor([[False, False, True]]), -INF)
    (slope,) = torch.autograd.grad(as_logits(masked).softmax(1)[0, 0], x)
    assert slope[0, 0] > 0 > slope[0, 1] and slope[0, 2] == 0


class Votes(nn.Module):
    def forward(self, x):
        return nn.functional.one_hot(x.flatten(1).argmax(1), 4)


class RulesOut:
    name, randomised, batch_dependent, base = "rules-out", False, False, None

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        return torch.where(x.flatten(1) > 0.5, x.flatten(1), -INF)

    def logits_grouped(self, x, draws):
        return torch.where(x.flatten(2) > 0.5, x.flatten(2), -INF)


def test_modules_and_objects_are_read_alike():
    x = torch.tensor([[0.1, 0.9, 0.6, 0.2]]).view(1, 1, 2, 2)
    assert SamplingModule(Votes(), name="votes").logits(x, None).tolist() == [[0.0, 1.0, 0.0, 0.0]]
    defence = as_defence(RulesOut(), None, name="rules-out", origin="it returned")
    assert defence.logits(x, None).isfinite().all()
    assert defence.logits_grouped(x[None], [None]).isfinite().all()
