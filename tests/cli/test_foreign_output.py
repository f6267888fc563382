"""What a user's code prints does not stand between the lines of an answer."""

import json

import pytest

from robustbench_coded.cli.main import run

pytestmark = pytest.mark.long

TALKS = """
import torch

class Talks(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        print("so many inputs:", len(x))
        return self.model(x)
"""

SHORT = ["--attacks", "fgsm", "--limit", "20", "--batch-size", "10", "--quiet"]
COMMANDS = {
    "eval in this process": ["eval", *SHORT],
    "eval in a worker": ["eval", *SHORT, "--workers", "1"],
    "a probe": ["inspect", "digits-erm"],
    "plan": ["plan", *SHORT],
}


@pytest.mark.parametrize("command", list(COMMANDS.values()), ids=list(COMMANDS))
def test_the_answer_is_json_whatever_a_defence_prints(command, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(TALKS)
    named = [] if command[0] == "inspect" else ["--ckpt", "digits-erm"]
    run([*command, *named, "--data", "digits", "--defence", "mine.py:Talks", "--json"])
    said = capfd.readouterr()
    assert json.loads(said.out)
    assert "so many inputs: " in said.err
