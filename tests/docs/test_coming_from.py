"""docs/coming-from.md: both calls of a row leave the same accuracy, without random starts the same pixels."""

import contextlib
import io
import re
from pathlib import Path

import pyautoattack
import pytest
import torch
import torchattacks

from robustbench_coded import attack
from robustbench_coded.data.registry import load_data
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| `((?:torchattacks|AutoAttack).+?)` \| `(attack\(.+?\))` \|$",
    (ROOT / "docs" / "coming-from.md").read_text(),
    re.MULTILINE,
)
CALLS = [pytest.param(*row, marks=[pytest.mark.long] * ("standard" in row[0])) for row in ROWS]
IMAGES = 256
FEW_IMAGES = 0.0125  # of accuracy, owed to other random starts


@pytest.fixture(scope="module")
def names():
    file = load_checkpoint(str(ROOT / "checkpoints" / "digits-erm.safetensors"))
    assert file.normalisation is not None
    mean, deviation = file.normalisation.mean, file.normalisation.std
    model = PixelModel(file.network, mean, deviation, classes=10, arch=file.arch).eval()
    x, y = load_data("digits").batch(range(IMAGES))

    def autoattack(model, **options):
        return pyautoattack.AutoAttack(model, device="cpu", seed=0, **options)

    calls = {"attack": attack, "AutoAttack": autoattack, "torchattacks": torchattacks}
    return {"model": model, "x": x, "y": y, **calls}


def perturbed(names, call):
    with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(0)
        result = eval(call, dict(names))
    return result[0] if isinstance(result, tuple) else result


def accuracy(names, x):
    with torch.no_grad():
        return float((names["model"](x).argmax(1) == names["y"]).float().mean())


def test_every_row_is_read():
    assert len(ROWS) == 8


@pytest.mark.parametrize(("theirs", "ours"), CALLS)
def test_both_calls_leave_the_same(names, theirs, ours):
    by_theirs, by_ours = perturbed(names, theirs), perturbed(names, ours)
    assert accuracy(names, by_theirs) == pytest.approx(accuracy(names, by_ours), abs=FEW_IMAGES)
    assert accuracy(names, by_ours) < 0.8
    if "seed" not in ours:
        torch.testing.assert_close(by_theirs, by_ours, rtol=0, atol=1e-7)
