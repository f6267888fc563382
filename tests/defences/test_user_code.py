"""User defences that change the working folder, or end the process: neither is theirs alone."""

import os
from pathlib import Path

import pytest
import torch

from robustbench_coded.defences.plugin import load_user_defence
from robustbench_coded.user_code import UserCode

SOURCE = """
import os
import torch

os.chdir("mine")  # as scripts do that look for their files


class Object:
    name, randomised, batch_dependent, base = "moves", False, False, None

    def __init__(self, model):
        self.scale = float(open("scale.txt").read())
        os.chdir("deeper")

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        assert os.path.isfile("here.txt")
        os.chdir(os.path.dirname(os.path.abspath("here.txt")))
        return x.flatten(1)[:, :2] * self.scale


class Module(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        os.chdir("deeper")

    def forward(self, x):
        assert os.path.isfile("here.txt")
        return x.flatten(1)[:, :2]
"""


@pytest.mark.parametrize("name", ["Object", "Module"])
def test_the_folder_of_everybody_else_stays_where_it_is(tmp_path, monkeypatch, name):
    (tmp_path / "mine" / "deeper").mkdir(parents=True)
    (tmp_path / "mine" / "scale.txt").write_text("2")
    (tmp_path / "mine" / "deeper" / "here.txt").touch()
    (tmp_path / "moving.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    defence = load_user_defence("moving.py:" + name, torch.nn.Flatten())
    assert Path.cwd() == tmp_path
    for _ in range(2):  # and the user defence finds itself where it went
        defence.sample(torch.Generator(), 3)
        assert defence.logits(torch.ones(3, 1, 2, 2), None).shape == (3, 2)
        assert Path.cwd() == tmp_path


def test_the_folder_is_put_back_when_the_code_fails(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="fails"), UserCode():
        os.chdir("mine")
        raise ValueError("fails")
    assert Path.cwd() == tmp_path
