"""The scored model is asked once about the same inputs, and its answers are its own."""

from pathlib import Path

import torch
from torch import nn

from robustbench_coded.defences.inferences import Standard
from robustbench_coded.evaluation.execution.run_unit import execute
from robustbench_coded.evaluation.execution.worker_context import AnsweredOnce
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.session.evaluation import make_plan

DIGITS = Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors"


class Counting(nn.Module):
    """[B, 1, 2, 2] -> [B, 4]; counts the images that it was asked about."""

    def __init__(self):
        super().__init__()
        self.images = 0

    def forward(self, x):
        self.images += len(x)
        return 3 * x.flatten(1)


def test_the_same_inputs_are_answered_once_in_whatever_groups():
    model, x = Counting(), torch.rand(2, 3, 1, 2, 2)
    defence = AnsweredOnce(model)
    with torch.no_grad():
        first = defence.logits(x.flatten(0, 1), None)
        again = defence.logits_grouped(x, [None] * 2)
    assert model.images == 6
    assert torch.equal(first, again.flatten(0, 1)) and torch.equal(
        first, Standard(model).logits(x.flatten(0, 1), None)
    )


def test_inputs_that_moved_in_place_are_other_inputs():
    defence, x = AnsweredOnce(Counting()), torch.rand(3, 1, 2, 2)
    with torch.no_grad():
        before = defence.logits(x, None)
        x[0] += 1
        after = defence.logits(x, None)
    assert not torch.equal(before[0], after[0]) and torch.equal(before[1:], after[1:])


def test_whoever_writes_into_an_answer_does_not_change_the_next():
    defence, x = AnsweredOnce(Counting()), torch.rand(3, 1, 2, 2)
    with torch.no_grad():
        before = defence.logits(x, None).clone()
        defence.logits(x, None).fill_(-torch.inf)
        defence.logits_grouped(x.unsqueeze(0), [None]).fill_(-torch.inf)
        assert torch.equal(defence.logits(x, None), before)


def test_gradients_are_never_remembered():
    defence, x = AnsweredOnce(Counting()), torch.rand(3, 1, 2, 2)
    with torch.no_grad():
        defence.logits(x, None)
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(defence.logits(leaf, None).sum(), leaf)
    assert torch.equal(grad, torch.full_like(x, 3))


def test_an_attack_that_stops_early_and_its_scoring_share_one_forward():
    config = EvalConfig(
        checkpoints=(("erm", str(DIGITS)),), data="digits", limit=64, attacks=("pgd-20",), threads=1
    )
    prepared = prepare(config)
    (unit,) = [unit for unit in make_plan(config, prepared).units if unit.row.attack == "pgd-20"]
    context = prepared.context
    model, asked = context.model("erm"), []
    handle = model.register_forward_hook(lambda module, inputs, output: asked.append(len(output)))
    result = execute(context, unit)
    handle.remove()
    rows = result.rows.to_pandas()
    assert rows.prediction.ne(rows.label).all()  # every example was broken, none attacked again
    assert asked == [64]
