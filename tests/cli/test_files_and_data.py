"""Checkpoints beside data that lack classes or count them from 1, and networks that do not answer."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded import evaluate
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.errors import InputError, in_python

X, Y = load_digits("test").batch(range(64))
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
CHEAP = ("--attacks", "fgsm", "--limit", "16", "--batch-size", "8", "--threads", "1", "--quiet")


def saved(path, keep, shift=0):
    np.savez(path, x=(X[keep].permute(0, 2, 3, 1) * 255).round().byte().numpy(), y=Y[keep].numpy() + shift)
    return f"npz:{path}"


def test_a_subset_without_its_highest_class_is_evaluated_and_the_run_says_how_it_computed(
    csrobust, digits_erm, tmp_path
):
    data = saved(tmp_path / "a.npz", Y < 9)
    answer = csrobust("eval", "--ckpt", digits_erm, "--data", data, *CHEAP, "--out", "run")
    assert answer.code == 0, answer.err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["checkpoints"][0]["classes"] == 10 and run["data"]["classes"] == 9
    if torch.set_flush_denormal(False):
        assert run["identity"]["subnormals"] == "flushed"
        assert float(torch.full((), 1e-40) * 1) > 0  # and put back after


def test_labels_that_begin_at_1_are_named_as_such(csrobust, digits_erm, tmp_path):
    data = saved(tmp_path / "a.npz", Y < 10, shift=1)
    said = csrobust("eval", "--ckpt", digits_erm, "--data", data, *CHEAP).err
    assert "labels go from 1 to 10, and the network's 10 classes begin at 0; give y - 1" in said


def test_images_of_more_classes_are_other_data():
    few = dataset_in_memory((X, Y % 4))
    assert few.of_all_classes(10).classes == 10 and few.of_all_classes(4) is few
    with pytest.raises(InputError, match="digits: it has 10 classes, and the network answers 12; choose"):
        load_digits("test").of_all_classes(12)  # its classes have names


@pytest.mark.parametrize(
    ("place", "said"), [(".", ".: not a file; --ckpt takes a .pt, .pth, .th or .safetensors file")]
)
def test_a_folder_is_no_file(csrobust, place, said):
    answer = csrobust("eval", "--ckpt", place)
    assert answer.code == 2 and said in answer.err


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            lambda x: MODEL(x).argmax(1),
            r"model: expected logits \[16, classes\], got \[16\]; where these are classes",
        ),
        (
            lambda x: (
                MODEL[1](x.permute(0, 3, 1, 2)[:, :8].flatten(1)[:, :64]) if x.shape[3] == 1 else {}["no"]
            ),
            r"model: it fails on images \[16, 1, 8, 8\]: KeyError.*; it answers images \[n, H, W, C\]",
        ),
        (lambda x: [1] * 40, r"returns a list \(0: int, .*5: int, ...\), in which 0 tensors"),
    ],
)
def test_the_same_is_said_in_python(model, said):
    with pytest.raises(InputError, match=said):
        evaluate(model, (X, Y))


def test_a_command_stays_a_command_in_python():
    said = "pass --arch NAME: csrobust eval --ckpt a.pt --arch file.py:build"
    assert in_python(said) == "pass arch NAME: csrobust eval --ckpt a.pt --arch file.py:build"
