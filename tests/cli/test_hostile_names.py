"""Names that hold escape codes, new lines or markup print as text, whatever the command."""

import json

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

NAMES = ("\x1b[31mred\x07", "a\nb\r|c", "<script>[bold]x", "x" * 300, "\u202egnp")
SHOWN = (r"\x1b[31mred\x07", r"a\nb\r|c", "<script>[bold]x", "x" * 300, r"\u202egnp")
SMALL = ("--data", "digits", "--limit", "16", "--batch-size", "8", "--attacks", "fgsm", "--threads", "1")


def plain(text):
    return all(character.isprintable() or character == "\n" for character in text)


@pytest.fixture
def run(csrobust, digits_erm):
    named = [part for name in NAMES for part in ("--ckpt", f"{name}={digits_erm}")]
    answer = csrobust("eval", *named, *SMALL, "--out", "run")
    assert answer.code == 0, answer.err
    return answer


@pytest.mark.long
def test_commands_show_names_and_nothing_else(run, csrobust):
    assert plain(run.out)
    assert plain(run.err)
    for name in SHOWN:
        assert f"right  {name} | standard" in run.err.replace("\n", "")  # the longest is wrapped
    again = [csrobust("show", "run"), csrobust("show", "run", "--example", 3), csrobust("compare", "run")]
    for answer in again:
        assert answer.code == 0
        assert plain(answer.out)
    assert r"\x1b[31mred\x07" in again[1].out
    told = json.loads(csrobust("show", "run", "--example", 3, "--json").out)
    assert {row["checkpoint"] for row in told["rows"]} == set(NAMES)
    assert list(dict.fromkeys(pd.read_csv("run/summary.csv").checkpoint)) == list(SHOWN)


def test_what_a_file_says_of_itself_is_text(csrobust, digits_erm, tmp_path):
    path = tmp_path / "own\x1b[2Jname.safetensors"
    save_file(load_file(digits_erm), path, {"recipe": "\x1b[31mred\n", "arch": "digits-cnn"})
    for arguments in (("inspect", path), ("inspect", f"{path}\x1b[31m"), ("report", "\x1b[31m")):
        answer = csrobust(*arguments)
        assert plain(answer.out + answer.err)
        assert r"\x1b[" in answer.out + answer.err


def test_a_command_to_go_on_with_is_one_line_that_a_shell_reads_back(capsys):
    from robustbench_coded.cli.run import _say_how_to_go_on
    from robustbench_coded.evaluation.options.config import EvalConfig

    _say_how_to_go_on(EvalConfig((), command=("csrobust", "eval", "a\nb c", "--overwrite")), None)
    assert capsys.readouterr().err.endswith(r"resume with: csrobust eval $'a\x0ab c'" + "\n")
