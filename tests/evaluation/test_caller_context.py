"""Figures do not depend on the default dtype, the default device or the autocast around a public call."""

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded import RCI, attack, compare, evaluate, write_reports
from robustbench_coded.cli.main import main
from robustbench_coded.evaluation.engine.worker import attempt
from robustbench_coded.run import load_run


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


CONTEXTS = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "within meta": lambda: torch.device("meta"),
    "set to meta": lambda: default_device("meta"),
}
QUICK = {"attacks": "pgd-5", "eps": 0.2, "threads": 1, "draws": 2, "batch_size": 16}


def state():
    device, dtype = torch.get_default_device(), torch.get_default_dtype()
    return device, dtype, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(32, 1, 8, 8, generator=generator)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)).eval()
    for weight in network.parameters():
        weight.data.normal_(generator=generator)
    return network, x, network(x).argmax(1)


@pytest.fixture(scope="module")
def usual(problem, tmp_path_factory):
    network, x, y = problem
    return evaluate(network, (x, y), defences="rci:N=24", out=tmp_path_factory.mktemp("usual") / "a", **QUICK)


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_an_attack_is_the_same_in_any_context_and_leaves_it(problem, context):
    network, x, y = problem
    torch.manual_seed(1)
    names = ("pgd-5", "apgd-ce-5", "square-20")
    expected = [attack(network, x, y, name, eps=0.1, seed=0) for name in names]
    unseeded = attack(network, x, y, "pgd-5", eps=0.1)
    torch.manual_seed(1)
    with context():
        before = state()
        found = [attack(network, x, y, name, eps=0.1, seed=0) for name in names]
        again = attack(network, x, y, "pgd-5", eps=0.1)
        assert state() == before
    assert all(map(torch.equal, found, expected)) and torch.equal(again, unseeded)


@pytest.mark.parametrize(
    "context",
    ["autocast", *(pytest.param(each, marks=pytest.mark.long) for each in ("float64", "within meta"))],
)
def test_a_run_has_the_same_outcomes_in_any_context_and_leaves_it(problem, usual, context, tmp_path):
    network, x, y = problem
    with CONTEXTS[context]():
        before = state()
        run = evaluate(network, (x, y), defences="rci:N=24", out=tmp_path / "a", **QUICK)
        assert state() == before
    np.testing.assert_array_equal(run.outcomes.margin, usual.outcomes.margin)
    assert {0.0, 1.0} < set(usual.summary.accuracy)


def test_reports_and_comparisons_are_the_same_in_any_context(usual):
    report, compared = (usual.path / "report.md").read_bytes(), compare([usual.path]).as_data()
    with ExitStack() as contexts:
        for name in ("float16", "autocast", "within meta"):
            contexts.enter_context(CONTEXTS[name]())
        assert compare([usual.path]).as_data() == compared
        write_reports(usual.path)
        assert not load_run(usual.path).summary.empty
    assert (usual.path / "report.md").read_bytes() == report


def test_a_defence_draws_on_the_generators_device_whatever_the_default_is(problem):
    def draw():
        return RCI(problem[0], 8, 12, average=2).sample(torch.Generator().manual_seed(0), 8)

    expected = draw()
    with torch.device("meta"):
        assert torch.equal(draw().cpu(), expected)


CODE = """
import torch

torch.set_default_dtype(torch.float64)


def build(model):
    return lambda x: model(x.round(decimals=2))
"""


@pytest.mark.long
@pytest.mark.parametrize("workers", [[], ["--workers", "1"]], ids=["here", "worker"])
def test_a_defence_that_sets_a_dtype_changes_no_row_of_others(tmp_path, monkeypatch, workers):
    (tmp_path / "theirs.py").write_text(CODE)
    options = ["--limit", "32", "--attacks", "pgd-5", "--eps", "0.1", "--threads", "1", "--quiet"]
    found = []
    for name, more in (("usual", []), ("theirs", ["--defence", f"{tmp_path}/theirs.py:build", *workers])):
        with default_dtype(torch.float32):
            command = ["eval", "--ckpt", "digits-erm", "--data", "digits", *options, *more]
            assert main([*command, "--out", str(tmp_path / name)]) == 0
        rows = load_run(tmp_path / name).outcomes
        found.append(rows[(rows.defence == "standard") & (rows.attack == "pgd-5")])
    np.testing.assert_array_equal(found[0].margin, found[1].margin)


def test_a_unit_is_computed_in_float32_by_default(monkeypatch):
    seen = []
    path = "robustbench_coded.evaluation.engine.worker.execute"
    monkeypatch.setattr(path, lambda context, unit: seen.append(torch.get_default_dtype()))

    class Anything:
        def __getattr__(self, name):
            return Anything()

    anything = Anything()
    anything.setup = Anything()
    anything.setup.group_images, anything.setup.fitting = 1, {}
    with default_dtype(torch.float64):
        attempt(anything, type("Unit", (), {"case": Anything()})())
    assert seen == [torch.float32]
