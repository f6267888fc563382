"""Defences that are told of every batch before they answer it."""

import pytest
import torch

from robustbench_coded.defences.inferences import Standard
from robustbench_coded.defences.per_batch import PerBatch, per_batch, stated_protocol
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.errors import InputError


class Told:
    """Notes what it is told; its logits are the pixel sums less the mean of the batch it was fitted to."""

    name, randomised, batch_dependent, base, abstain = "told", False, True, None, 2

    def __init__(self):
        self.notes = []
        self.seen = 0

    def reset(self):
        self.notes.append("reset")
        self.seen = 0

    def fit(self, x):
        self.notes.append(("fit", len(x)))
        self.centre = x.mean()

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        self.notes.append("logits")
        self.seen += len(x)
        score = x.flatten(1).sum(1) - self.centre + self.seen
        return torch.stack([score, -score], -1)


def test_reset_comes_before_fit_and_fit_before_the_answer():
    told = Told()
    defence = per_batch(told)
    defence.logits(torch.rand(4, 1, 2, 2), None)
    defence.logits(torch.rand(3, 1, 2, 2), None)
    assert told.notes == ["reset", ("fit", 4), "logits", "reset", ("fit", 3), "logits"]
    assert (defence.name, defence.batch_dependent, defence.abstain) == ("told", True, 2)


def test_an_answer_depends_on_the_batch_alone_and_without_the_protocol_it_does_not():
    x, other = torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2)

    def answered_again(defence):
        first = defence.logits(x, None)
        defence.logits(other, None)
        return torch.equal(first, defence.logits(x, None))

    assert answered_again(per_batch(Told()))
    bare = Told()
    bare.fit(x)
    assert not answered_again(bare)


def test_gradients_flow_through_fit():
    x = torch.rand(4, 1, 2, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(per_batch(Told()).logits(x, None)[0, 0], x)
    # The centre's share reaches inputs that the first answer does not look at otherwise.
    torch.testing.assert_close(grad[1], torch.full((1, 2, 2), -1 / 16))


def test_a_defence_without_either_is_left_as_it_is():
    defence = Standard(torch.nn.Flatten())
    assert per_batch(defence) is defence
    told = as_defence(Told(), None, name="told", origin="it returned")
    assert isinstance(told, PerBatch)


def test_the_report_is_told_how_it_was_asked_and_counted():
    assert stated_protocol(per_batch(Told())) == [
        "is told of every batch before it answers it, by reset() and fit(x)",
        "may reject inputs (class 2): the answer to the clean input then counts instead",
    ]
    assert stated_protocol(Standard(torch.nn.Flatten())) == []


def test_a_plain_module_is_told_too():
    class Centred(torch.nn.Module):
        def fit(self, x):
            self.centre = x.mean()

        def forward(self, x):
            return x.flatten(1) - self.centre

    x = torch.rand(4, 1, 2, 2)
    answers = SamplingModule(Centred(), name="centred").logits(x, 0)
    torch.testing.assert_close(answers, x.flatten(1) - x.mean())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fit", lambda self: None, r"whose fit does not take \(x\)"),
        ("reset", lambda self, everything: None, r"whose reset does not take \(\)"),
        ("fit", True, r"whose fit is bool, not a method \(x\)"),
        ("abstain", "last", "whose 'abstain' is str, not the index of a class or None"),
    ],
)
def test_what_cannot_be_called_is_refused(name, value, message):
    broken = type("Broken", (Told,), {name: value})()
    with pytest.raises(InputError, match=message):
        as_defence(broken, None, name="broken", origin="it returned")
