"""``run.toml``: options in a file; every run folder has the one that repeats it."""

import json
from pathlib import Path

import pytest

from robustbench_coded.cli.commands import evaluation
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.run_file import run_toml

SMALL = ("--data", "digits", "--limit", "32", "--batch-size", "16", "--attacks", "fgsm", "--threads", "1")
A = ("--ckpt", "a.pt")
REPORTS = Path(__file__).parents[2] / "reports"


@pytest.fixture
def parsed(csrobust, monkeypatch):
    """The configuration that a command line means; nothing is run."""
    seen: list[EvalConfig] = []
    monkeypatch.setattr(evaluation, "run_evaluation", lambda config, **how: seen.append(config) or 0)

    def read(*words: object) -> EvalConfig:
        answer = csrobust("eval", *words)
        assert answer.code == 0, answer.err
        return seen.pop()

    return read


@pytest.mark.parametrize(
    "words",
    [
        [*A],
        ["--ckpt", "erm=a.pt", "--ckpt", "x=b=c.pt", "--rci", "N=190", "--coded", "N=1.5K"],
        [*A, "--attacks", "aa", "--eps", "8/255,0.1,1/255,0.0123456789", "--norm", "l2"],
        [*A, "--attacks", "full", "--batch-size", "8,16", "--no-standard", "--state", "persistent:4"],
        [*A, "--attacks", "paper,pgd-7,relaxed-pgd-20+momentum=1", "--inputs", "victim,co-batch"],
        [*A, "--attacks", "adaptive,mosaic-8", "--time", "30m"],
        [*A, "--attacks", "mosaic-8,adaptive"],
        [*A, "--claim", "72% pgd-10 batch/known eps=8/255 votes=5", "--eps", "8/255"],
        [*A, "--seed", "7", "--data", 'npz:\u00e4 \\ "it".npz', "--first", "--limit", "9"],
        [*A, "--defence", "m:b", "--draws", "5"],
        ["--defence", "coin-flip", "--engine", "ray", "--workers", "3"],
    ],
)
def test_the_file_of_an_evaluation_repeats_it(parsed, tmp_path, words):
    config = parsed(*words)
    (tmp_path / "run.toml").write_text(run_toml(config))
    assert parsed("run.toml") == config


def test_the_file_has_what_was_typed_and_no_default(parsed):
    words = ("--rci", "N=190", "--attacks", "adaptive,mosaic-8", "--claim", "72% pgd-10", "--state", "reset")
    assert run_toml(parsed(*A, *words)).splitlines()[1:] == [
        *('ckpt = ["a.pt"]', 'rci = ["N=190"]', 'attacks = ["adaptive", "mosaic-8"]', 'claim = "0.72 pgd-10"')
    ]


def test_what_is_typed_counts_before_the_file(parsed, tmp_path):
    text = 'ckpt = "a.pt"\nlimit = 64\nbatch-size = [8, 16]\nstandard = false\n'
    (tmp_path / "mine.toml").write_text(text)
    config = parsed("mine.toml", "--limit", "32")
    assert (config.limit, config.batch_size, config.standard) == (32, (8, 16), False)


def test_a_name_that_is_no_text_leaves_no_file():
    assert run_toml(EvalConfig((("a", "\udc80.pt"),))) is None


def test_every_committed_run_has_the_options_that_repeat_it(parsed):
    runs = [manifest.parent for manifest in REPORTS.glob("*/run.json")]
    assert len(runs) == 5
    for run in runs:
        assert (run / "run.toml").is_file(), run.name
        checkpoints = json.loads((run / "run.json").read_text())["checkpoints"]
        named = [name for file in run.glob("run*.toml") for name, _ in parsed(file).checkpoints]
        assert {checkpoint["name"] for checkpoint in checkpoints} == set(named), run.name


def test_a_run_is_repeated_from_its_folder_and_goes_on_in_it(csrobust, tmp_path):
    first = csrobust("eval", "--ckpt", "digits-erm", *SMALL, "--out", "first", "--quiet")
    assert first.code == 0, first.err
    (tmp_path / "first").rename(tmp_path / "run")
    more = csrobust("eval", "run/run.toml", "--quiet")
    assert more.code == 0 and not (tmp_path / "first").exists(), more.err
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["invocations"]) == 2
    again = csrobust("eval", "run/run.toml", "--out", "again", "--json")
    assert again.code == 0, again.err
    assert (tmp_path / "again" / "summary.csv").read_text() == (tmp_path / "run" / "summary.csv").read_text()
    listed = csrobust("list", "runs", ".").out.splitlines()
    assert [line.split()[0] for line in listed] == ["again", "run"]
    assert all(" finished " in line and " digits-erm " in line for line in listed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lmit = 3\n", "there is no option 'lmit'; did you mean limit? `csrobust eval --help` lists them"),
        ("limit = true\n", "limit is true; write text, a number, or a list of them"),
        ("standard = 1\n", "standard is 1; write true or false"),
        ("limit =\n", "not a TOML file (Invalid value"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(csrobust, tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(text)
    answer = csrobust("eval", "mine.toml")
    assert answer.code == 2 and f"csrobust: mine.toml: {said}" in answer.err
    assert answer.err.count("\n") == 1


MISSING = "can't be read (No such file or directory)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", "nowhere.toml"], f"nowhere.toml: {MISSING}"),
        (["eval", "digits"], f"digits: {MISSING}; a checkpoint is named with --ckpt digits"),
        (["list", "runs", "nowhere"], "nowhere holds no run; csrobust eval writes one"),
    ],
)
def test_what_is_not_there_is_said_to_be_missing(csrobust, words, said):
    answer = csrobust(*words)
    assert (answer.code, answer.err) == (2, f"csrobust: {said}\n")
