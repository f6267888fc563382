"""Defences whose operators hide the gradient: found by the probe, attacked with smooth operators, named."""

import pytest
import torch
from torch import nn

from attacks.presets import requested
from robustbench_coded import evaluate
from tests.evaluation.conftest import SMALL, K

pytestmark = pytest.mark.long

EPS = 0.2
_GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(24, 1, 4, 4, generator=_GENERATOR)
WEIGHTS = torch.randn(3, 16, generator=_GENERATOR)


class Linear(nn.Module):
    """Three classes by fixed weights, which eps 0.2 breaks; a subclass hides that."""

    def forward(self, x):
        return self.hide(x.flatten(1) @ WEIGHTS.T)

    def hide(self, logits):
        return logits


class Votes(Linear):
    """What is left of the logits is which of them is largest: nothing to differentiate."""

    def hide(self, logits):
        return nn.functional.one_hot(logits.argmax(1), 3).float()


class Hot(Linear):
    """Probabilities at a temperature of 1/1000."""

    def hide(self, logits):
        return (logits * 1000).softmax(1)


class Drawn(Linear):
    """A vote drawn inside: the network samples, and says so nowhere."""

    def hide(self, logits):
        noise = -torch.empty_like(logits).exponential_().log()
        return ((logits + 0.1 * noise) * 100).softmax(1)


Y = Linear()(X).argmax(1)


def run(tmp_path, network, attacks, n=None):
    return evaluate(network, (X[:n], Y[:n]), attacks=attacks, out=tmp_path / "run", **{**SMALL, "eps": EPS})


def accuracy(run, attack):
    return float(run.summary.set_index("attack").accuracy[attack])


@pytest.mark.parametrize("network, operator", [(Votes, "argmax"), (Hot, "softmax"), (Drawn, "softmax")])
def test_the_relaxed_attack_breaks_what_it_should_and_the_report_names_the_operator(
    tmp_path, network, operator
):
    relaxed = "relaxed-pgd-20+momentum=1"
    plain = accuracy(run(tmp_path / "plain", Linear(), "pgd-20"), "pgd-20")
    found = run(tmp_path, network(), f"pgd-20,{relaxed}")
    assert accuracy(found, relaxed) <= plain + 0.05 < 0.5
    met = found.manifest.probes[0].hidden_by
    assert operator in [one["operator"] for one in met]
    assert f"gradients vanish in {operator} at scale" in (tmp_path / "run" / "report.md").read_text()


def test_a_network_that_samples_is_a_randomised_defence(tmp_path):
    found = run(tmp_path, Drawn(), "fgsm")
    assert found.manifest.cases[0].randomised is True
    assert float(found.summary.set_index("attack").draws["clean"]) == 2


def test_presets_run_relaxed_attacks_where_something_hides_the_gradient_and_nowhere_else(tmp_path):
    hidden = run(tmp_path / "hidden", Hot(), "adaptive", n=K)
    plain = run(tmp_path / "plain", Linear(), "adaptive", n=K)
    assert "relaxed-pgd-20+momentum=1" in set(hidden.summary.attack)
    assert not any(attack.startswith("relaxed-") for attack in plain.summary.attack)
    # Square is kept for what has no gradient even then; the checks may ask for more of it.
    assert "square-1000" not in set(plain.summary.attack)


def test_what_is_named_runs_anywhere():
    assert requested(("adaptive",), "linf")["relaxed-pgd-20+momentum=1"].if_hidden
    named = requested(("adaptive", "relaxed-pgd-20+momentum=1"), "linf")
    assert not named["relaxed-pgd-20+momentum=1"].if_hidden and named["relaxed-eot4-apgd-ce-50"].if_hidden
    assert not requested(("full",), "linf")["square-1000"].if_hidden
