"""Help in groups with examples, names that were meant, and what a failing user defence says."""

import re
import shlex
import subprocess
import sys

import pytest

from robustbench_coded.cli.app import SECTIONS
from robustbench_coded.evaluation.options.config import GROUPS
from tests.cli.conftest import every_command, parsed

COMMANDS = every_command()
EXAMPLES = {name: command.examples for name, command in COMMANDS.items() if " figure" not in name}
SMALL = ("--ckpt", "digits-erm", "--data", "digits", "--limit", "32", "--batch-size", "16", "--threads", "1")


def test_every_shared_option_stands_in_exactly_one_group(csrobust):
    shown = csrobust("eval", "--help").out
    assert [title for title in GROUPS if f"\n{title}:\n" not in shown] == [] and "\nOptions:" not in shown
    flags = [option.flag for option in COMMANDS["eval"].parameters.values() if not option.positional]
    assert [flag for flag in flags if len(re.findall(rf"^  {flag}\b(?!-)", shown, re.MULTILINE)) != 1] == []


@pytest.mark.parametrize("flag", ["--attacks", "--inputs"])
def test_what_a_screening_chooses_itself_is_in_no_help_and_refused(csrobust, flag):
    shown = csrobust("screen", "--help").out
    assert "--eps" in shown
    assert [f for f in ("--attacks", "--inputs") if f in shown] == []
    answer = csrobust("screen", *SMALL, flag, "fgsm" if flag == "--attacks" else "victim")
    assert (answer.code, answer.err) == (
        2,
        f"csrobust: csrobust screen has no {flag}; csrobust eval has it\n",
    )


def test_the_help_says_which_attacks_run_by_default(csrobust):
    assert "[default: paper,adaptive]" in " ".join(csrobust("eval", "--help").out.split())
    assert "[default: fgsm,pgd-10,transfer-pgd-20]" in " ".join(csrobust("sweep", "--help").out.split())


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_parse(csrobust, tmp_path, name):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "run.toml").write_text("")
    shown = csrobust(*name.split(), "--help").out
    for line in EXAMPLES[name]:
        assert f"\n  {line}\n" in shown
        program, *words = shlex.split(line)
        assert program == "csrobust" and words[: len(name.split())] == name.split()
        assert parsed(*words)


def test_values_have_the_same_names_in_every_help(csrobust):
    shown = {name: csrobust(*name.split(), "--help").out for name in COMMANDS}
    kinds = set(re.findall(r"^  --[a-z-]+ ([A-Z]+)", "\n".join(shown.values()), re.MULTILINE))
    assert kinds == {"TEXT", "PATH", "N", "NUMBER"}


def test_every_command_has_examples():
    assert [name for name, lines in EXAMPLES.items() if not lines] == []


@pytest.mark.parametrize("words", [(), ("paper",), ("paper", "figure")])
def test_no_command_prints_the_help_as_help(csrobust, words):
    answer = csrobust(*words)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == csrobust(*words, "--help").out and answer.out.count("\n") > 5


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["eval", *SMALL, "--attacks", "pdg-10"], "did you mean pgd-10"),
        (["eval", *SMALL, "--attacks", "adaptve"], "did you mean adaptive?"),
        (["eval", *SMALL, "--atacks", "fgsm"], "did you mean --attacks?"),
        (["eval", "--ckpt", "digits-emr"], "did you mean digits-erm?"),
        (["eval", *SMALL, "--defence", "nosie:sigma=0.1"], "did you mean noise?"),
        (["eval", *SMALL, "--defence", "noise:sgima=0.1"], "did you mean sigma?"),
        (["eval", *SMALL, "--defence", "bit-depth"], "did you mean published:bit-depth?"),
        (["evla"], "did you mean 'eval'?"),
        (["paper", "figure", "sprial"], "did you mean 'spiral'?"),
        (["list", "atacks"], "did you mean attacks?"),
        (["submit", "run"], "Missing option '--entry'; `csrobust submit --help`"),
        (["inspect"], "csrobust inspect --help"),
        (["eval", "--limit", "5.5"], "csrobust: --limit '5.5' "),
        (["eval", "--margin", "soon"], "csrobust: --margin 'soon' "),
        (["eval", "--limit"], "csrobust: --limit needs a value"),
    ],
)
def test_what_is_mistyped_or_missing_is_named(csrobust, words, meant):
    answer = csrobust(*words)
    assert answer.code == 2 and answer.err.count("\n") == 1
    assert meant in answer.err


@pytest.mark.parametrize(
    ("words", "usual"),
    [
        (["-h"], ["--help"]),
        (["help"], ["--help"]),
        (["help", "eval"], ["eval", "--help"]),
        (["eval", "-h"], ["eval", "--help"]),
        (["paper", "figure", "-h"], ["paper", "figure", "--help"]),
        (["-V"], ["--version"]),
        (["plan", *SMALL, "--batch_size", "8"], ["plan", *SMALL, "--batch-size", "8"]),
        (["plan", *SMALL, "--epsilon", "0.2"], ["plan", *SMALL, "--eps", "0.2"]),
        (["plan", "--checkpoint", *SMALL[1:], "--norm", "Linf"], ["plan", *SMALL]),
        (["plan", *SMALL, "--norm", "L2", "--eps", "1"], ["plan", *SMALL, "--norm", "2", "--eps", "1"]),
    ],
)
def test_usual_spellings_are_taken(csrobust, words, usual):
    first, second = csrobust(*words), csrobust(*usual)
    assert first.code == second.code == 0 and len(first.out) > 5
    # Forecasts differ from call to call, and with them the widths of columns.
    plain = [re.sub(r"<?[\d.]+ (s|min)\b", "", answer.out).split() for answer in (first, second)]
    assert plain[0] == plain[1]


def test_every_command_stands_in_one_section_of_the_help(csrobust):
    shown = csrobust().out
    assert [title for title in SECTIONS if f"\n{title}:\n" not in shown] == [] and "\nOthers:" not in shown
    names = {name.split()[0] for name in COMMANDS}
    assert [name for name in names if len(re.findall(rf"^  {name} ", shown, re.MULTILINE)) != 1] == []
    assert re.findall(r"^  ([a-z]+) ", shown, re.MULTILINE)[:6] == [
        *("eval", "sweep", "plan", "compare", "report", "list")
    ]


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_help_is_as_wide_as_the_terminal_and_cuts_nothing(csrobust, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in ((), ("eval",), ("plan",), ("paper",)):
        lines = csrobust(*words, "--help").out.partition("\nExamples:")[0].splitlines()
        assert max(map(len, lines)) <= columns, words
        assert words != ("eval",) or max(map(len, lines)) > columns - 8
        assert not any(line.endswith("...") for line in lines[1:])


def test_a_bare_list_names_what_can_be_listed(csrobust):
    lists = [line.split()[0] for line in csrobust("list").out.splitlines()]
    assert "attacks" in lists and all(csrobust("list", kind).code == 0 for kind in lists if kind != "runs")


PLUGINS = {
    "when_imported": "layers = 3\nraise RuntimeError('no such layer')\n",
    "when_built": "def build(model):\n    raise RuntimeError('no such layer')\n",
    "when_asked": (
        "import torch\n\n\nclass Broken(torch.nn.Module):\n    def forward(self, x):\n"
        "        raise RuntimeError('no such layer')\n\n\ndef build(model):\n    return Broken()\n"
    ),
}


@pytest.mark.parametrize(("name", "line"), [("when_imported", 2), ("when_built", 2), ("when_asked", 6)])
def test_a_failing_plug_in_names_its_file_and_line(csrobust, tmp_path, name, line):
    (tmp_path / f"{name}.py").write_text(PLUGINS[name])
    command = ("eval", *SMALL, "--defence", f"{name}:build", "--attacks", "fgsm")
    answer = csrobust(*command)
    assert answer.code == 2 and answer.err.count("\n") == 1, answer.err
    assert "no such layer" in answer.err and f"({name}.py, line {line})" in answer.err
    traced = csrobust(*command, "--debug").err
    assert "Traceback (most recent" in traced
    assert traced.splitlines()[-1] == answer.err.splitlines()[-1]


def test_an_error_nobody_foresaw_is_one_line_with_its_place(csrobust, monkeypatch):
    from robustbench_coded.cli.commands import inspection

    monkeypatch.setattr(inspection, "names", lambda kind: [][1])
    answer = csrobust("list", "data")
    assert answer.code == 1 and answer.out == ""
    assert re.fullmatch(
        r"csrobust: IndexError: list index out of range \(test_help.py, line \d+\); --debug prints the "
        r"traceback\n",
        answer.err,
    )
    assert "Traceback" in csrobust("--debug", "list", "data").err


def test_commands_import_what_they_need_and_no_more():
    """Help needs nothing large; an evaluation nothing that only some evaluations use."""
    help_does_without = {"torch", "pandas", "numpy", "scipy", "pyarrow", "matplotlib"}
    a_run_does_without = {
        "torchvision", "sklearn", "ray", "timm", "transformers", "torchattacks", "tensorboard", "onnx",
        "torch._dynamo", "torch._inductor", "scipy.interpolate", "scipy.stats", "scipy.ndimage",
    }  # fmt: skip
    said = (
        "import gc, sys, robustbench_coded.cli.run\n"
        "from robustbench_coded.cli import app\n"
        f"print({help_does_without} & set(sys.modules))\n"
        "with robustbench_coded.cli.run.importing():\n"
        "    import robustbench_coded.evaluation.session.evaluate\n"
        f"print({a_run_does_without} & set(sys.modules))\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
    )
    out = subprocess.run([sys.executable, "-c", said], capture_output=True, check=True, text=True).stdout
    assert out.splitlines() == ["set()", "set()", "True True"]
