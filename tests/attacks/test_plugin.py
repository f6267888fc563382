"""Attacks of the user's own, named ``package.module:name`` without any registration; objects of other
packages are answered with what to write instead.
"""

import re
import textwrap

import pytest
import torch
import torchattacks

from attacks.adapters import plugin
from attacks.adapters.third_party import run_third_party
from attacks.attack import read_attack
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded import InputError, evaluate

MODULE = """
    import torch

    calls = []


    class Corner:
        '''Every pixel moved by eps against the gradient of the margin, or along it.'''

        def __init__(self, steps=1, up=True):
            self.steps, self.up = steps, up

        def perturb(self, x, y, estimator, budget, generators, start=None):
            from attacks.losses import margin_loss

            adv = x
            for _ in range(self.steps):
                grad = estimator.gradient(adv, y, margin_loss).grad
                adv = budget.around(x).step_(adv.clone(), grad if self.up else -grad, 10.0)
            return adv


    def brighter(model, x, y, eps, share=1.0):
        calls.append(share)
        return x + share * eps


    def too_far(model, x, y, eps):
        return x + 5 * eps


    def flat(model, x, y, eps):
        return x[0]


    def sneaky(model, x, y, eps):
        return x * torch.nan


    class Nothing:
        pass


    class Two:
        def perturb(self, x, y):
            return x


    number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_attacks_under_test.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name(text):
    return read_attack(f"my_attacks_under_test:{text}")


def test_a_name_is_read_without_importing_anything():
    parsed = read_attack("no.such_module:Attack+steps=10+lr=1/255")
    assert parsed.package == "plugin" and parsed.algorithm == "no.such_module:Attack"
    assert parsed.steps == 10 and dict(parsed.options) == {"steps": "10", "lr": "1/255"}


@pytest.mark.parametrize("place", ["my_attacks_under_test.py", "{folder}/my_attacks_under_test.py"])
def test_a_file_is_named_in_place_of_a_module(folder, monkeypatch, place):
    (folder / "elsewhere").mkdir()
    if place.startswith("{"):
        monkeypatch.chdir(folder / "elsewhere")
    named = read_attack(f"{place.format(folder=folder)}:Corner+steps=3")
    assert named.package == "plugin" and named.steps == 3
    assert plugin.load(named).steps == 3
    submitted = read_attack(f"from:standard/{named}+bits=8")
    assert submitted.knows == "submitted" and submitted.options == (("bits", "8"),)


def test_a_file_that_is_not_there_is_said(folder):
    with pytest.raises(ValueError, match=r"there is no file no/such/attack\.py"):
        plugin.load(read_attack("no/such/attack.py:Corner"))


def test_options_reach_a_class_and_a_function_as_values(folder):
    corner = plugin.load(name("Corner+steps=3+up=false"))
    assert corner.steps == 3 and corner.up is False
    x, y = torch.rand(2, 1, 3, 3), torch.zeros(2, dtype=torch.long)
    found = plugin.load(name("brighter+share=1/2"))(None, x, y, eps=0.1)
    torch.testing.assert_close(found, x + 0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Corner+width=3", r"Corner\(width=3\) raised TypeError"),
        ("Nothing", "Nothing has no method perturb"),
        ("Two", "Two.perturb does not take"),
        ("brighter+width=2", r"brighter does not take \(model, x, y, eps, width\)"),
        ("brighter+positional=2", r"brighter does not take \(model, x, y, eps, positional\)"),
        ("number", "has no function number"),
        ("Cornr", "has no function Cornr; it has Corner, brighter"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(folder, text, message):
    with pytest.raises(ValueError, match=message) as error:
        plugin.load(name(text))
    assert "\n" not in str(error.value)


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"importing no\.such_module failed .*ModuleNotFoundError"):
        plugin.load(read_attack("no.such_module:Attack"))


def test_a_result_of_another_shape_is_refused_and_what_is_not_finite_is_left_to_the_check(folder):
    x, y = torch.rand(2, 1, 3, 3), torch.zeros(2, dtype=torch.long)

    def found(text):
        budget = PerturbationBudget("linf", 0.1)
        attack, own = name(text), plugin.load(name(text))
        return run_third_party(attack, torch.nn.Flatten(), x, y, budget, torch.Generator(), own)

    with pytest.raises(ValueError, match=r"expected perturbed inputs \(2, 1, 3, 3\), got \(1, 3, 3\)"):
        found("flat")
    assert found("sneaky").isnan().all()
    torch.testing.assert_close(found("too_far"), (x + 0.1).clamp(0, 1))


X, Y, EPS = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3, 0.1


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()


def test_an_object_of_torchattacks_is_answered_with_the_function_that_gives_its_inputs(network):
    theirs = torchattacks.PGD(network, eps=EPS, random_start=False)
    with pytest.raises(InputError, match="asks the network that it was made with") as refused:
        evaluate(network, (X, Y), attacks=["pgd-2", theirs])
    (line,) = re.findall(r"attacks=\[(lambda.*)\], with its options$", str(refused.value))
    mine = eval(line.replace("eps=eps", "eps=eps, random_start=False"), {"PGD": torchattacks.PGD})
    torch.testing.assert_close(mine(network, X, Y, EPS), theirs(X, Y), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "package", ["foolbox.attacks.projected_gradient_descent", "art.attacks.evasion.x", "autoattack"]
)
def test_those_of_other_packages_are_answered_with_a_function_too(network, package):
    theirs = type("LinfPGD", (), {"__module__": package, "__call__": lambda self: None})()
    with pytest.raises(InputError, match=r"write attacks=\[lambda model, x, y, eps: ") as refused:
        evaluate(network, (X, Y), attacks=theirs)
    (line,) = re.findall(r"attacks=\[(lambda.*)\], with its options$", str(refused.value))
    compile(line, "line", "eval")


def test_functions_and_classes_of_the_users_own_are_no_objects_of_a_package():
    assert plugin.written(lambda model, x, y, eps: x) is None
    assert plugin.written(torchattacks.PGD) is not None
    assert plugin.written(type("Mine", (), {})) is None
