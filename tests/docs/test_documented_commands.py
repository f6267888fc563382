"""The blocks of code in README.md and docs/ run, on a few digits with a few cheap attacks.

Blocks of a page run in their order, in one folder. Python blocks share their names and find `model`, `x` and
`y`; one that begins with ``# name.py`` is that file, too. Commands get tiny limits after their own options;
those that train, or need hardware or data that a test has not, are parsed alone, and so are those that make
the committed reports, which take hours. Blocks of ``console`` or ``text`` show what came out somewhere.
"""

import functools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import robustbench_coded
from robustbench_coded.cli.main import main
from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.session.from_python import evaluate
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel
from tests.cli.conftest import every_command, parsed

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HOURS = "## Make the reports again"  # in reports/README.md, whose commands take hours
ERM = ROOT / "checkpoints" / "digits-erm.safetensors"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES, K = 16, 8
FEW = ("--limit", str(EXAMPLES), "--first", "--threads", "1")
CHEAP = (*FEW, "--draws", "2", "--quiet")
ADDED = {
    "eval": (*CHEAP, "--batch-size", str(K)),
    "sweep": (*CHEAP, "--batch-size", "4,8"),
}
RUN = ("eval", "sweep", "inspect", "list", "show", "report", "compare", "verify")
PROBED = ("--defence", "--rci", "--coded")
ELSEWHERE = (".", "ray")  # programs of the shell and of others
SHOWN = ("console", "text", "toml", "yaml")
TINY = {"limit": EXAMPLES, "first": True, "batch_size": K, "draws": 2}
TINY |= {"threads": 1}
QUICK_ATTACKS = "fgsm,transfer-pgd-2"


@pytest.fixture(autouse=True)
def few_victims(monkeypatch):
    monkeypatch.setattr("robustbench_coded.evaluation.options.config.VICTIMS", 2)


@pytest.fixture(scope="module")
def digits():
    """A model and labelled images, as the pages assume somebody has them."""
    checkpoint = load_checkpoint(ERM)
    normalisation = checkpoint.normalisation
    model = PixelModel(
        checkpoint.network, normalisation.mean, normalisation.std, classes=10, arch=checkpoint.arch
    )
    x, y = load_data("digits").batch(range(EXAMPLES))
    return {"model": model, "x": x, "y": y}


@pytest.fixture
def folder(digits, tmp_path, monkeypatch):
    """A folder with the files that pages name."""
    for name in ("model.pt", "a.pt", "b.pt", "mine.safetensors"):
        shutil.copy(ERM, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(robustbench_coded, "evaluate", tiny_evaluate, raising=False)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]  # other tests have a my_defence, too


@functools.wraps(evaluate)
def tiny_evaluate(*given, **options):
    options.setdefault("attacks", QUICK_ATTACKS)
    return evaluate(*given, **{**options, **TINY})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_all_blocks_of_a_page_run(page, folder, digits, capsys):
    names = dict(digits)
    for kind, code in BLOCK.findall(page.read_text()):
        assert kind in ("sh", "python", *SHOWN), f"a block of {kind} is not run"
        if kind in SHOWN:
            continue
        if kind == "sh":
            for line in code.splitlines():
                run_line(line, capsys)
        else:
            first = re.match(r"# (\w+\.py)\n", code)
            if first:
                (folder / first[1]).write_text(code)
            exec(compile(code, f"{page.name}", "exec"), names)
    capsys.readouterr()


def run_line(line, capsys):
    """A command with tiny limits; `make` says what it would do; other lines are the shell's own."""
    words = shlex.split(line, comments=True)
    if not words or words[0] in ELSEWHERE:
        return
    if words[0] == "make":
        make(words[1:])
        return
    programs = [Path(word).name for word in words]
    assert "csrobust" in programs, f"{line} is neither csrobust nor make"
    words = words[programs.index("csrobust") + 1 :]
    if words[0] not in RUN:
        parsed(*words)
        return
    if words[0] == "eval" and "--attacks" not in words:
        words += ["--attacks", QUICK_ATTACKS]
    added = (*FEW, "--batch-size", str(K)) if {*words} & {*PROBED} else ()
    code = main([*words, *ADDED.get(words[0], added if words[0] == "inspect" else ())])
    assert code == 0, f"{line}: {capsys.readouterr().err}"


def make(words):
    subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=True, capture_output=True)


def test_commands_that_reproduce_reports_parse_and_their_files_exist():
    commands = (ROOT / "reports" / "README.md").read_text().split(HOURS)[1]
    blocks = [code for kind, code in BLOCK.findall(commands) if kind == "sh"]
    lines = [line for code in blocks for line in code.splitlines()]
    for program, *words in map(shlex.split, lines):
        match program:
            case "make":
                make(words)
            case "csrobust":
                parsed(*words)
                checkpoints = re.findall(r"checkpoints/\S+?\.safetensors", " ".join(words))
                assert all((ROOT / name).is_file() for name in checkpoints), words
            case _:
                named = words[words[0] == "-m"] if program == "python" else program
                assert (ROOT / named).is_file() or (ROOT / named.replace(".", "/")).is_dir(), program


def test_commands_named_in_a_sentence_exist():
    known = {" ".join(name.split()[:2]) for name in every_command()} | {"paper"}
    for page in PAGES:
        named = set(re.findall(r"`csrobust ((?:paper )?[a-z]+)", page.read_text()))
        assert named <= known, page.name
