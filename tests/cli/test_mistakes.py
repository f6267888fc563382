"""What newcomers' mistakes print, to the letter (mistakes.md), and no mistake changes a file."""

import re
import shlex
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from robustbench_coded.cli.main import main
from tests.cli.conftest import complaints

PAGE = Path(__file__).with_name("mistakes.md")
SHOWN = re.findall(
    r"^```console\n\$ csrobust ([^\n]+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
)
FIRST = (
    "eval --ckpt digits-erm --data digits --limit 16 --batch-size 8 --attacks fgsm --threads 1 --quiet "
    "--out reports/first"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the page names, and a finished run."""
    made = tmp_path_factory.mktemp("mistakes")
    numbers = np.random.default_rng(0)
    (made / "notes.txt").write_text("not weights")
    photos = numbers.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(made / "photos.npz", x=photos, y=numbers.integers(0, 10, 40))
    np.savez(made / "unlabelled.npz", x=photos)
    np.savez(made / "table.npz", x=numbers.random((40, 30)), y=numbers.integers(0, 2, 40))
    (made / "my_defence.py").write_text("def build(model):\n    raise ValueError('no such layer')\n")
    with chdir(made):
        assert main(shlex.split(FIRST)) == 0
    yield made
    sys.modules.pop("my_defence", None)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_the_page_has_ten_mistakes_and_a_warning():
    assert len(SHOWN) == 11


@pytest.mark.parametrize(("command", "said"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_mistake_prints_what_the_page_says(folder, monkeypatch, capsys, command, said):
    monkeypatch.chdir(folder)
    before = files(folder)
    code = main(shlex.split(command))
    printed = complaints(capsys.readouterr().err)
    assert files(folder) == before
    if command.startswith("plan"):  # a warning, wrapped to the terminal
        assert code == 0 and " ".join(said.split()) in " ".join(printed.split())
    else:
        assert (code, printed) == (2, said)
