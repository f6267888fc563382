"""In a notebook, `evaluate` shows a bar below the cell, which goes, and sentences, which stay."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbench_coded import evaluate
from robustbench_coded.evaluation.session.listener import in_notebook

pytestmark = pytest.mark.long


@pytest.fixture
def shown(monkeypatch):
    """What a notebook displays, one string for each change."""
    states = []
    handle = SimpleNamespace(update=states.append)

    def display(html, display_id):
        states.append(html)
        return handle

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    return states


def test_a_bar_grows_while_attacks_run_and_then_goes(shown, tmp_path):
    x, y = torch.rand(16, 1, 4, 4), torch.arange(16) % 2
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    out = tmp_path / "run"
    run = evaluate({"<mine>": model}, x, y, attacks="fgsm,pgd-2", eps=0.1, batch_sizes=8, out=out, limit=16)
    bars = [re.search(r'value="(\d+)" max="(\d+)"', state) for state in shown]
    values = [int(bar[1]) / int(bar[2]) for bar in bars if bar]
    assert min(values) == 0 and max(values) == 1
    assert any("&lt;mine&gt; | standard | batch/unknown | pgd-2" in state for state in shown)
    assert "<progress" not in shown[-1] and "<mine>" not in "".join(shown)
    assert run.summary.accuracy.notna().all()


def test_there_is_no_bar_elsewhere(shown, monkeypatch):
    assert in_notebook() is not None
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))
    assert in_notebook() is None  # at a terminal
    monkeypatch.delitem(sys.modules, "IPython")
    assert in_notebook() is None
