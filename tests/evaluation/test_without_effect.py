"""No option is ignored: one that cannot apply is refused, and numbers are read in one way everywhere."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from robustbench_coded import InputError, assert_accuracy_under_attack, attack, evaluate
from robustbench_coded.cli.main import main
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import in_python
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.models.shipped import shipped
from tests.evaluation.conftest import RowMean, labelled

INSIDE = r"put it inside: nn\.Sequential\(torchvision\.transforms\.Normalize\(mean, std\), model\)$"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "runs").exists()  # nothing was written


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"normalize": "mnist"}, f"^normalize has no effect on what is in memory; {INSIDE}"),
        ({"arch": "resnet20"}, "^arch has no effect on what is in memory; leave it out$"),
        ({"data_dir": "nowhere"}, "^data_dir has no effect on what is in memory; leave it out$"),
        ({"attacks": []}, r"^attacks \[\]: expected names or functions, or None for the default ones$"),
        ({"attacks": 3}, "^attacks 3: expected names or functions"),
        ({"attacks": [None]}, r"^attacks \[None\]: expected names or functions"),
        ({"eps": []}, "^eps has no value; give one or more, or leave it out$"),
        ({"inputs": ()}, "^inputs has no value"),
        ({"batch_size": []}, "^batch_size has no value"),
        ({"normalize": ((0.5,), (0.5,))}, r"^normalize \(\(0\.5,\), \(0\.5,\)\) is not text$"),
        ({"standard": "no"}, "^standard: expected True or False, got 'no'$"),
        ({"limit": (8,)}, r"^limit \(8,\) is not a whole number$"),
    ],
    ids=str,
)
def test_an_option_that_cannot_apply_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        evaluate(RowMean(), labelled(), **{"eps": 0.1, "attacks": "fgsm", **options})


def test_an_option_of_files_alone_is_said_to_be_so():
    digits = load_data("digits")
    held = InMemory(digits, {"mine": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))})
    files = {"checkpoints": (("theirs", "digits-erm"),), "batch_size": (16,), "normalize": "none"}
    given = EvalConfig(**files, attacks=("fgsm",))
    said = "arch and normalize apply to theirs; mine, in memory, is evaluated as it is"
    assert said in prepare(given, held).notes
    assert said not in prepare(replace(given, normalize=None), held).notes


@pytest.mark.long
def test_a_zoo_entry_takes_no_normalisation_either(capsys):
    assert main(["eval", "--defence", "rounding", "--normalize", "none"]) == 2
    assert "csrobust: --normalize has no effect on what is in memory" in capsys.readouterr().err


NO_NUMBERS = [True, np.bool_(True), torch.tensor(True), "many", [[0.1]], Ellipsis, float("inf")]
NUMBERS = [
    Fraction(1, 10),
    torch.tensor(0.1, dtype=torch.float64),
    np.float64(0.1),
    np.array(0.1),
    "1/10",
    0.1,
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused_in_the_same_words(value):
    x, y = labelled()
    calls = {
        "eps": lambda: evaluate(RowMean(), (x, y), eps=value),
        "eps ": lambda: attack(RowMean(), x, y, "pgd-2", value),
        "step_size": lambda: attack(RowMean(), x, y, "pgd-2", 0.1, step_size=value),
        "steps": lambda: attack(RowMean(), x, y, "pgd", 0.1, steps=value),
        "eot": lambda: attack(RowMean(), x, y, "pgd-2", 0.1, eot=value),
        "seed": lambda: attack(RowMean(), x, y, "pgd-2", 0.1, seed=value),
        "draws": lambda: evaluate(RowMean(), (x, y), draws=value),
        "margin": lambda: evaluate(RowMean(), (x, y), margin=value),
        "at_least": lambda: assert_accuracy_under_attack(RowMean(), (x, y), at_least=value),
    }
    for name, call in calls.items():
        with pytest.raises(
            InputError, match=rf"^{name.strip()} .* is (not a (whole )?number|too large)|^expected at most"
        ):
            call()


@pytest.mark.parametrize("value", [None, [0.1], torch.tensor([0.1])], ids=repr)
def test_one_radius_is_one_number(value):
    with pytest.raises(InputError, match=r"^eps .* is not a number"):
        attack(RowMean(), *labelled(), "pgd-2", value)


def test_a_number_is_a_number_of_any_library():
    x, y = labelled()
    usual = attack(RowMean(), x, y, "pgd-3@0.05", 0.1, seed=3)
    for eps in NUMBERS:
        assert torch.equal(attack(RowMean(), x, y, "pgd-3@0.05", eps, seed=3), usual), repr(eps)
    for three in (Fraction(3), torch.tensor(3), np.int8(3)):
        found = attack(RowMean(), x, y, "pgd", 0.1, steps=three, step_size=Fraction(1, 20), seed=three)
        assert torch.equal(found, usual), repr(three)


def test_radii_of_any_library_are_those_of_the_run(tmp_path):
    several = [Fraction(1, 10), np.float64(0.2), torch.tensor(0.25), "3/10"]
    run = evaluate(
        RowMean(), labelled(), attacks="fgsm", eps=several, out=tmp_path / "run", limit=Fraction(8)
    )
    assert set(run.summary.eps) == {0.0, 0.1, 0.2, 0.25, 0.3} and run.manifest.data.examples == 8


@pytest.mark.parametrize("target", [True, Fraction(1), "cat", [[0]], Ellipsis], ids=repr)
def test_a_target_is_a_class(target):
    with pytest.raises(InputError, match=r"^target: expected "):
        attack(RowMean(), *labelled(), "pgd-2", 0.1, target=target)


def test_an_open_normalisation_ends_in_the_advice_of_the_command_line(robust_perceptron, capsys):
    path, arch = str(robust_perceptron), f"{robust_perceptron.parent}/own.py:build"
    named = ["--ckpt", path, "--arch", arch]
    assert main(["eval", *named, "--data", "digits", "--eps", "0.15", "--quiet"]) == 2
    _, *advice = capsys.readouterr().err.strip().splitlines()
    assert len(advice) > 1
    with pytest.raises(InputError) as refused:
        evaluate(path, "digits", eps=0.15, arch=arch)
    assert str(refused.value).splitlines()[1:] == [in_python(line) for line in advice]


CODE = """
from torch import nn
from torchvision.transforms import Normalize
from robustbench_coded.models.architectures.digits_cnn import DigitsCNN

def build():
    return nn.Sequential(Normalize((0.3056,), (0.3756,)), DigitsCNN(classes=10))
"""


@pytest.mark.parametrize(
    ("normalize", "named"), [("mnist", True), pytest.param("none", False, marks=pytest.mark.long)]
)
def test_a_normalisation_stated_before_the_one_inside_is_contradicted(tmp_path, capsys, normalize, named):
    (tmp_path / "mine.py").write_text(CODE)
    weights = load_file(shipped()["digits-erm"])
    torch.save({f"1.{name}": weight for name, weight in weights.items()}, tmp_path / "a.pt")
    options = ["--attacks", "fgsm", "--limit", "16", "--batch-size", "8", "--threads", "1", "--eps", "0.1"]
    command = ["eval", "--ckpt", "a.pt", "--arch", "mine.py:build", "--data", "digits", *options]
    assert main([*command, "--normalize", normalize, "--out", "run"]) == 0
    said = "its batch-norms contradict mine.py:build with normalisation mnist, which is stated"
    report = (tmp_path / "run" / "report.md").read_text()
    first_screen = report.partition("\n## ")[0]
    assert (said in first_screen.replace("\\", "")) is named
    assert (f"warning: {said}" in " ".join(capsys.readouterr().err.split())) is named
