"""Objects of other packages as attacks: what to write instead gives the same inputs."""

import re

import pyautoattack
import pytest
import torch
import torchattacks

from attacks.adapters import objects
from robustbench_coded import InputError, attack, evaluate

X, Y, EPS = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3, 0.1


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("PGD", {"alpha": 0.03, "steps": 4, "random_start": False}), ("FGSM", {}), ("VNIFGSM", {"steps": 3})],
)
def test_an_object_of_torchattacks_is_answered_with_the_name_that_gives_its_inputs(network, kind, settings):
    theirs = getattr(torchattacks, kind)(network, eps=EPS, **settings)
    with pytest.raises(InputError, match="asks the network that it was made with") as refused:
        evaluate(network, (X, Y), attacks=["pgd-2", theirs])
    (name,) = re.findall(r'attacks=\["(.*)"\], eps=0.1$', str(refused.value))
    torch.manual_seed(0)
    expected = theirs(X, Y)
    if kind != "VNIFGSM":  # which draws random numbers
        torch.testing.assert_close(attack(network, X, Y, name, EPS), expected, rtol=0, atol=1e-6)
    assert attack(network, X, Y, name, EPS).shape == X.shape


def test_an_autoattack_object_is_answered_with_its_version(network):
    theirs = pyautoattack.AutoAttack(network, norm="Linf", eps=EPS, version="rand", device="cpu")
    assert 'write attacks=["autoattack:rand"], eps=0.1' in (objects.written(theirs) or "")


@pytest.mark.parametrize("package", ["foolbox.attacks.projected_gradient_descent", "art.attacks.evasion.x"])
def test_those_that_no_name_stands_for_are_answered_with_a_function(network, package):
    parts = {
        "__module__": package,
        "__call__": lambda self: None,
        "attack_params": ["eps_step", "batch_size"],
    }
    theirs = type("LinfPGD", (), parts)()
    theirs.eps_step, theirs.batch_size = 0.02, 32
    with pytest.raises(InputError, match=r"write attacks=\[lambda model, x, y, eps: ") as refused:
        evaluate(network, (X, Y), attacks=theirs)
    (line,) = re.findall(r"attacks=\[(lambda.*)\]$", str(refused.value))
    compile(line, "line", "eval")
    assert ("eps_step=0.02)" in line) == package.startswith("art") and "batch_size" not in line


def test_functions_and_classes_of_the_users_own_are_no_objects_of_a_package():
    assert objects.written(lambda model, x, y, eps: x) is None
    assert objects.written(torchattacks.PGD) is not None
    assert objects.written(type("Mine", (), {})) is None
