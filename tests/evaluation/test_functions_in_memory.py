"""Functions as networks and defences: what they answer by, what they draw, and what has no gradient."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded import InputError, attack, evaluate
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.models.in_memory import NetworkInMemory
from tests.evaluation.conftest import SMALL as FEW
from tests.evaluation.conftest import RowMean, Wrapper, labelled

pytestmark = pytest.mark.long

SMALL = {**FEW, "attacks": "fgsm"}
SERVER = Path(__file__).parents[2] / "docs" / "examples" / "serve_numpy.py"


def test_a_defence_is_compared_with_the_model_wherever_it_holds_it(tmp_path):
    model, alone = RowMean().eval(), RowMean().eval()
    alone.base = None
    given = {
        "around": lambda x: model(x + 0.01 * torch.randn_like(x)),
        "elsewhere": alone,
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


class Behind(nn.Module):
    """Asks a network that it holds somewhere."""

    def __init__(self, held, get):
        super().__init__()
        self.held, self.get = held, get

    def forward(self, x):
        return self.get(self.held)(x)


def patched(network):
    old = network.forward
    network.forward = lambda z: old(z)
    return network


FORMS = {
    "function": lambda network: lambda x: network(x),
    "list": lambda network: Behind([network], lambda held: held[0]),
    "dict": lambda network: Behind({"net": network}, lambda held: held["net"]),
    "attribute": lambda network: Behind(SimpleNamespace(net=network), lambda held: held.net),
    "patched forward": patched,
    "partial of a tuple": lambda network: partial(lambda nets, x: nets[0](x), (network,)),
}


def dropping():
    return nn.Sequential(nn.Dropout(0.5), RowMean())


@pytest.mark.parametrize("form", [form for form in FORMS if form != "patched forward"])
def test_a_network_in_training_mode_is_refused_wherever_it_is_held(form, tmp_path):
    model = FORMS[form](dropping().train())
    model = model.eval() if isinstance(model, Behind) else model
    with pytest.raises(
        InputError, match=r"^model: the Sequential that it asks is in training mode; call its"
    ):
        evaluate(model, labelled(), out=tmp_path / "run", **SMALL)
    run = evaluate(FORMS[form](dropping().eval()), labelled(), out=tmp_path / "calm", **SMALL)
    assert not any(case.randomised for case in run.manifest.cases)


def test_a_network_in_training_mode_that_changes_no_answer_is_none_of_the_models(tmp_path):
    other = nn.Linear(2, 2).train()
    model = Behind([RowMean().train(), other], lambda held: held[0]).eval()
    assert evaluate(model, labelled(), out=tmp_path / "run", **SMALL).summary.accuracy[0] == 1
    assert other.training and model.held[0].training


@pytest.mark.parametrize("form", FORMS)
def test_attacks_ask_networks_in_evaluation_mode_wherever_they_are_held(form):
    network = dropping().train()
    model, (x, y) = FORMS[form](network), labelled()
    found = attack(model, x, y, "pgd-2", 0.1, seed=0)
    assert network.training and network[0].training
    assert torch.equal(found, attack(RowMean(), x, y, "pgd-2", 0.1, seed=0))


class Repeats(nn.Module):
    """Gives its last answer again where an input is nearly the last one."""

    def __init__(self):
        super().__init__()
        self.network, self.asked = RowMean(), None

    def forward(self, x):
        near = self.asked is not None and self.asked.shape == x.shape
        if not (near and (x - self.asked).abs().max() < 0.1):
            self.asked, self.answer = x.detach().clone(), self.network(x)
        return self.answer


class Counts(RowMean):
    """Answers otherwise after a while."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + (self.calls > 150))


@pytest.mark.parametrize("kind", [Repeats, Counts])
@pytest.mark.parametrize("form", ["function", "list", "module"])
def test_a_network_with_a_memory_is_refused_as_a_model(kind, form, tmp_path):
    for given in ({}, {"standard": False, "defences": "noise:sigma=0.1"}):
        model = FORMS.get(form, lambda network: network)(kind().eval())
        with pytest.raises(InputError, match=r"was not evaluated: it has a memory: .* changed by"):
            evaluate(model, labelled(), out=tmp_path / "run", **SMALL, **given)


def test_a_memory_of_the_last_questions_alone_is_found_when_they_are_asked_again(tmp_path):
    model = RowMean().eval()

    class Streak(Wrapper):
        """Rounds whole batches from the sixth question in a row on that is nearly the same."""

        randomised, last, count = True, torch.empty(0), 0

        def logits(self, x, draw):
            same = self.last.shape == x.shape and bool((x - self.last).abs().max() < 0.25)
            self.last, self.count = x.detach().clone(), self.count + 1 if same else 1
            return model(x.detach().round() + 0 * x if self.count > 5 and len(x) >= 64 else x)

    x, y = (part.repeat(3, *[1] * (part.ndim - 1))[:64] for part in labelled())
    x[:, 0, 7, 7] = torch.linspace(0.4, 0.6, 64)  # which makes each image another
    options = {**SMALL, "attacks": "pgd-10", "batch_size": 64}
    with pytest.raises(IncompleteRun, match=r"has a memory: \d+ of 64 predictions have changed"):
        evaluate({"rows": model}, (x, y), defences={"streak": Streak()}, out=tmp_path / "run", **options)


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


def test_what_is_in_memory_runs_in_this_process_whatever_workers_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("robustbench_coded.evaluation.engine.run._pool", None)
    given = {"workers": 2, "engine": "ray", "out": tmp_path / "run"}
    run = evaluate({"f": lambda x: x.mean(-1).flatten(1)}, labelled(), **given, **SMALL)
    assert (
        "a network in memory or behind a pipe has one worker here: workers and engine are left out"
        in run.manifest.notes
    )


UNGUARDED = """
import robustbench_coded
print("ran")
robustbench_coded.evaluate("digits-erm", "digits", attacks="fgsm", limit=16, workers=1, out="run")
"""


@pytest.mark.long
def test_a_script_that_asks_for_workers_runs_once(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["ran"] and (tmp_path / "run" / "summary.csv").exists()
