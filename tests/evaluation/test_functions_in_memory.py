"""Functions as networks and defences: what they answer by, what they draw, and what has no gradient."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded import InputError, evaluate
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.models.in_memory import NetworkInMemory
from tests.evaluation.conftest import SMALL as FEW
from tests.evaluation.conftest import RowMean, labelled

pytestmark = pytest.mark.long

SMALL = {**FEW, "attacks": "fgsm"}
SERVER = Path(__file__).parents[2] / "docs" / "examples" / "serve_numpy.py"


def test_a_function_around_the_very_model_is_compared_with_it(tmp_path):
    model, other = RowMean().eval(), RowMean().eval()
    given = {
        "around": lambda x: model(x + 0.01 * torch.randn_like(x)),
        "elsewhere": lambda x: other(x + 0.01 * torch.randn_like(x)),
        "inside": nn.Sequential(nn.Identity(), model),
    }
    run = evaluate({"rows": model}, labelled(), defences=given, out=tmp_path / "run", **SMALL)
    judged = {j.subject.defence: j.verdict.gain for j in run.judgements if str(j.threat) == "batch/unknown"}
    assert judged["around"] is not None and judged["inside"] is not None
    assert judged["elsewhere"] is None


def test_a_generator_that_a_function_refers_to_is_set_for_each_draw(tmp_path):
    model, generator = RowMean().eval(), np.random.default_rng(0)

    def noisy(x):
        return model(x + 0.05 * torch.from_numpy(generator.normal(size=x.shape)).float())

    before = generator.bit_generator.state
    run = evaluate({"rows": model}, labelled(), defences=noisy, out=tmp_path / "run", **SMALL)
    planned = {(r.case.subject.defence, r.case.attack): r for r in run.manifest.cases}
    row = planned["noisy", "fgsm"]
    assert row.randomised
    assert generator.bit_generator.state == before


def test_another_function_under_the_same_name_is_not_taken_for_the_first(tmp_path):
    model = RowMean().eval()
    evaluate({"f": lambda x: model(x)}, labelled(), out=tmp_path / "run", **SMALL)
    with pytest.raises(InputError, match=r"a different version of model f \(changed: .*lambda"):
        evaluate({"f": lambda x: model(x.square())}, labelled(), out=tmp_path / "run", **SMALL)


def test_a_network_without_gradients_is_attacked_all_the_same_and_the_run_says_why(tmp_path):
    model = RowMean().eval()

    def rounded(x):
        return torch.tensor([[float(v) for v in row] for row in model(x).detach().numpy()])

    run = evaluate({"rows": model}, labelled(), defences=rounded, out=tmp_path / "run", **SMALL)
    rows = run.summary[run.summary.defence == "rounded"].set_index("attack")
    assert "fgsm" not in rows.index and rows.accuracy["transfer-pgd-20"] == 0
    assert any("rounded cannot be differentiated, so" in note for note in run.manifest.notes)


def test_noise_before_a_network_outside_torch_is_evaluated_by_queries(tmp_path):
    weights = np.zeros((64, 2))
    weights[:8] = [-1, 1]

    def linear(x):
        return x.flatten(1).numpy() @ weights - [0, 8]

    given = {"noisy": lambda x: linear(x + 0.01 * torch.randn_like(x))}
    few = {**SMALL, "attacks": "square-60", "eps": 0.3}
    run = evaluate(linear, labelled(), defences=given, out=tmp_path / "run", **few)
    noisy = run.summary[run.summary.defence == "noisy"].set_index("attack")
    assert noisy.accuracy["clean"] == 1 and noisy.accuracy["square-60"] < 0.8


def test_a_process_alone_is_evaluated_on_images_in_memory(tmp_path):
    w1, w2 = np.zeros((64, 16), "f4"), np.eye(16, 10, dtype="f4")
    w1[:8, :2] = [-1, 1]
    biases = {"b1": np.array([16, 0] + [0] * 14, "f4"), "b2": np.zeros(10, "f4")}
    np.savez(tmp_path / "w.npz", w1=w1, w2=w2, **biases)
    command = f"cmd: {sys.executable} {SERVER} {tmp_path / 'w.npz'}"
    run = evaluate(data=labelled(), defences=command, out=tmp_path / "run", **SMALL)
    rows = run.summary.set_index("attack")
    assert set(run.summary.defence) == {"noisy-numpy"}
    assert rows.accuracy["fgsm"] <= rows.accuracy["clean"]
    with pytest.raises(InputError, match="coin-flip is of the zoo, with its own model and data"):
        evaluate(data=labelled(), defences="coin-flip", out=tmp_path / "zoo", **SMALL)


class Rounded(nn.Module):
    def forward(self, x):
        return torch.stack([-x[:, 0, 0].mean(-1), x[:, 0, 0].mean(-1) - 1], 1).round()


def test_a_module_is_wrapped_where_it_returns_something_else_alone():
    data = dataset_in_memory(labelled())
    module, returns_a_tuple = Rounded(), nn.Sequential(Rounded(), Both())
    made = InMemory(data, {"plain": module, "tuple": returns_a_tuple})
    assert isinstance(made.model("plain", data).network, Rounded)
    assert isinstance(made.model("tuple", data).network, NetworkInMemory)


class Both(nn.Module):
    def forward(self, x):
        return x, None
