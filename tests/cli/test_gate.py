"""--fail-on, --junit and the assertion for tests: what a pipeline is told of verdicts."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch
from msgspec import structs

from robustbench_coded import InputError, assert_accuracy_under_attack
from robustbench_coded.cli import gate
from robustbench_coded.cli.main import run
from robustbench_coded.run import load_run

SMALL = ("eval", "--ckpt", "digits-erm", "--limit", "64", "--attacks", "pgd-5,transfer-pgd-5", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of a network alone, broken at eps 0.3."""
    path = tmp_path_factory.mktemp("gate") / "run"
    assert run([*SMALL, "--out", str(path)]) == 0
    return path


@pytest.fixture
def invented_judgements(folder):
    judgement = load_run(folder).judgements[0]
    case = judgement.case
    name = structs.replace(case.subject, checkpoint="a\x1b[31m\x00b")
    return [replace(judgement, case=structs.replace(case, subject=name))]


@pytest.mark.parametrize(
    ("verdicts", "code"), [("broken", 3), ("no-gain,broken", 3), ("no-gain", 3), ("worse-than-base", 0)]
)
def test_a_verdict_that_is_named_ends_with_3(folder, capsys, verdicts, code):
    assert run([*SMALL, "--out", str(folder), "--fail-on", verdicts]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if "--fail-on" in line]
    assert len(lines) == (code == 3) and all("digits-erm, standard, batch/unknown" in line for line in lines)


def test_a_verdict_that_does_not_exist_is_refused_before_anything_is_read(capsys):
    assert run(["eval", "--ckpt", "nowhere.pt", "--fail-on", "brokn"]) == 2
    assert "did you mean broken? choose from broken, no-gain" in capsys.readouterr().err


def test_verdicts_are_test_cases(folder, tmp_path):
    file = tmp_path / "junit.xml"
    assert run([*SMALL, "--out", str(folder), "--junit", str(file)]) == 0
    suite = ElementTree.parse(file).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("1", "1", "0")
    assert suite.find("testcase/failure").get("message") == "broken"


def test_a_defence_counts_and_not_the_network_beside_it(tmp_path, capsys):
    """The network alone is broken; of the defence too little is known on 16 images."""
    command = [*SMALL, "--limit", "16", "--batch-size", "8", "--rci", "N=12", "--out", str(tmp_path / "run")]
    file = tmp_path / "junit.xml"
    code = run([*command, "--fail-on", "broken", "--junit", str(file), "--attacks", "fgsm"])
    (case,) = ElementTree.parse(file).getroot().findall("testcase")
    assert "rci K=8 N=12" in case.get("name") and (code == 3) == (case.find("failure") is not None)


def assert_accuracy(**options):
    """That at least 40% of 64 images are right, unless the options say otherwise."""
    assert_accuracy_under_attack("digits-erm", "digits", **{"at_least": 0.4, "limit": 64, **options})


def test_an_accuracy_that_is_certainly_lower_fails_the_assertion():
    with pytest.raises(AssertionError, match=r"0\.0% \[0\.0%, .* expected at least 40\.0%"):
        assert_accuracy(eps=0.3, attacks="pgd-5")
    assert_accuracy(eps=0.01, attacks="pgd-5")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at_least": 40}, "at_least 40 is too large; give 1 or less"),
        ({"at_least": 0.1, "limit": 16}, "wider than 20%"),
    ],
)
def test_an_assertion_that_tells_nothing_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        assert_accuracy(eps=0.1, attacks="pgd-5", **options)


def test_a_hostile_name_leaves_the_file_well_formed(invented_judgements, tmp_path):
    file = tmp_path / "junit.xml"
    gate.write_junit(file, invented_judgements, gate.NEGATIVE)
    case = ElementTree.parse(file).getroot().find("testcase")
    assert case.get("classname") == r"a\x1b[31m\x00b"


def not_finite(model, x, y, eps):
    """An attack that is broken."""
    return x * float("nan")


def half_finite(model, x, y, eps):
    """The same for every other image."""
    return x.where((x.flatten(1).argmax(1) % 2 > 0).view(-1, 1, 1, 1), torch.nan)


UNTRIED = {
    "no base": ("transfer-pgd-5", "transfer-pgd-5 did not run: it is the base model"),
    "faulty": (not_finite, r"not_finite \(batch/unknown\) gave 64 faulty results"),
    "faulty on some, beside another": (["pgd-5", half_finite], r"half_finite .* faulty results"),
    "nothing random, alone": ("aware-pgd-5", "aware-pgd-5 did not run: nothing in it is random"),
}


@pytest.mark.parametrize("kind", UNTRIED)
def test_an_assertion_without_a_valid_attack_is_refused_and_names_it(kind):
    attacks, words = UNTRIED[kind]
    with pytest.raises(InputError, match=words):
        assert_accuracy(eps=0.01, attacks=attacks)


def test_an_attack_that_does_not_apply_is_not_missed_beside_one_that_ran():
    assert_accuracy(eps=0.01, attacks="pgd-5,transfer-pgd-5")


def test_a_transfer_that_lacks_a_base_model_is_missed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone_gate.py").write_text(
        "class Twice:\n    name, base, randomised, batch_dependent = 'twice', None, False, False\n"
        "    def __init__(self, model):\n        self.model = model\n"
        "    def sample(self, generator, k):\n        return None\n"
        "    def logits(self, x, draw):\n        return 2 * self.model(x)\n"
    )
    command = [*SMALL, "--eps", "0.01", "--defence", "alone_gate.py:Twice", "--out", "run"]
    assert run([*command, "--fail-on", "broken"]) == 2
    assert "transfer-pgd-5 did not run: it names no base model" in capsys.readouterr().err


def test_a_certain_failure_needs_no_further_attack():
    with pytest.raises(AssertionError, match="expected at least 40"):
        assert_accuracy(eps=0.3, attacks=["pgd-5", half_finite])


@pytest.mark.parametrize("attacks", ["transfer-pgd-5", "spoilt_gate.py:spoilt", "aware-pgd-5"])
def test_a_gate_without_a_valid_attack_ends_with_2_and_an_error(attacks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spoilt_gate.py").write_text("def spoilt(model, x, y, eps):\n    return x * float('nan')\n")
    command = [*SMALL[:5], "--quiet", "--eps", "0.01", "--attacks", attacks]
    verdicts = "broken" if "py" in attacks else "broken,not-settled"
    assert run([*command, "--out", "run", "--junit", "junit.xml", "--fail-on", verdicts]) == 2
    assert f"--fail-on: digits-erm, standard: {attacks} " in capsys.readouterr().err
    suite = ElementTree.parse("junit.xml").getroot()
    assert suite.get("errors") == "1" and attacks in suite.find("testcase/error").get("message")
    assert int(suite.get("tests")) == len(suite.findall("testcase"))


@pytest.mark.parametrize(("eps", "code"), [("0.3", 0), ("0.2", 2)])
def test_an_attack_that_never_ran_is_missed_unless_nothing_is_left(eps, code, tmp_path, capsys):
    """The first attack settles both verdicts, and leaves some right answers at the smaller eps."""
    command = [*SMALL[:3], "--quiet", "--eps", eps, "--until", "settled", "--out", str(tmp_path / "run")]
    assert run([*command, "--attacks", "pgd-5,transfer-pgd-5,pgd-20", "--fail-on", "worse-than-base"]) == code
    assert ("pgd-20 did not run" in capsys.readouterr().err) == (code == 2)
