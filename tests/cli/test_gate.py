"""--fail-on, --junit and the assertion for tests: what a pipeline is told of verdicts."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from msgspec import structs

from robustbench_coded import InputError, assert_accuracy_under_attack
from robustbench_coded.cli import gate
from robustbench_coded.cli.main import run
from robustbench_coded.judge.run import load_run

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
    ("verdicts", "code"), [("broken", 3), ("no-gain,broken", 3), ("no-gain,worse-than-base", 0)]
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


def test_an_accuracy_that_is_certainly_lower_fails_the_assertion():
    options = {"limit": 64, "attacks": "pgd-5"}
    with pytest.raises(AssertionError, match=r"0\.0% \[0\.0%, .* expected at least 40\.0%"):
        assert_accuracy_under_attack("digits-erm", "digits", eps=0.3, at_least=0.4, **options)
    assert_accuracy_under_attack("digits-erm", "digits", eps=0.01, at_least=0.4, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at_least": 40}, "at_least 40 is too large; give 1 or less"),
        ({"at_least": 0.1, "limit": 16}, "wider than 20%"),
    ],
)
def test_an_assertion_that_tells_nothing_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        assert_accuracy_under_attack("digits-erm", "digits", eps=0.1, attacks="pgd-5", **options)


def test_a_hostile_name_leaves_the_file_well_formed(invented_judgements, tmp_path):
    file = tmp_path / "junit.xml"
    gate.write_junit(file, invented_judgements, gate.NEGATIVE)
    case = ElementTree.parse(file).getroot().find("testcase")
    assert case.get("classname") == r"a\x1b[31m\x00b"
