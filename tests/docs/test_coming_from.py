"""docs/coming-from.md: both sides of its table leave what it says, and the same inputs where it says so."""

import contextlib
import io
import re
from pathlib import Path

import pyautoattack
import pytest
import torch
import torchattacks

from attacks.attack import read_attack
from robustbench_coded import attack
from robustbench_coded.data.registry import load_data
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^\| (?:ART's )?`(.+?)` \| `(attack\(.+?\))` \| ([\d.]+) \| ([\d.]+) \| (.+?) \|$", re.MULTILINE
)
ROWS = ROW.findall((ROOT / "docs" / "coming-from.md").read_text())
HERE = [row for row in ROWS if row[0].startswith(("torchattacks.", "autoattack("))]
SLOW = [pytest.param(*row, marks=[pytest.mark.long] * ("standard" in row[0])) for row in HERE]
IMAGES = 256
TWO_IMAGES = 200 / IMAGES + 0.05  # what other processors may decide otherwise, in per cent


@pytest.fixture(scope="module")
def setting():
    file = load_checkpoint(str(ROOT / "checkpoints" / "digits-erm.safetensors"))
    assert file.normalisation is not None
    mean, deviation = file.normalisation.mean, file.normalisation.std
    model = PixelModel(file.network, mean, deviation, classes=10, arch=file.arch).eval()
    x, y = load_data("digits").batch(range(IMAGES))

    def autoattack(model, which):
        version = {"version": which} if which == "standard" else {"version": "custom", "attacks": [which]}
        suite = pyautoattack.AutoAttack(model, norm="Linf", eps=0.1, device="cpu", seed=0, **version)
        with contextlib.redirect_stdout(io.StringIO()):
            return suite.run_standard_evaluation(x.clone(), y, batch_size=IMAGES)

    names = {"model": model, "x": x, "y": y, "torchattacks": torchattacks}
    return names | {"attack": attack, "autoattack": autoattack}


def left(setting, perturbed):
    """In per cent."""
    with torch.no_grad():
        return 100 * float((setting["model"](perturbed).argmax(1) == setting["y"]).float().mean())


@pytest.fixture(scope="module")
def run(setting):
    made = {}

    def of(call):
        if call not in made:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                result = eval(call, dict(setting))
            made[call] = result[0] if isinstance(result, tuple) else result
        return made[call]

    return of


def test_every_row_is_read():
    assert len(ROWS) == 12 and len(HERE) == 8


@pytest.mark.parametrize(("theirs", "ours", "left_by_theirs", "left_by_ours", "how"), SLOW)
def test_both_sides_leave_what_the_table_says(setting, run, theirs, ours, left_by_theirs, left_by_ours, how):
    assert left(setting, run(theirs)) == pytest.approx(float(left_by_theirs), abs=TWO_IMAGES)
    assert left(setting, run(ours)) == pytest.approx(float(left_by_ours), abs=TWO_IMAGES)
    if how == "equal":
        torch.testing.assert_close(run(theirs), run(ours), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("ours", "expected"), sorted({(row[1], row[3]) for row in ROWS if row not in HERE}))
def test_our_side_of_what_ran_once_is_as_it_was(setting, run, ours, expected):
    assert left(setting, run(ours)) == pytest.approx(float(expected), abs=TWO_IMAGES)


def test_options_of_the_second_table_are_those_of_names():
    assert str(read_attack("pgd-10@2/255+start=clean+momentum=1")) == "pgd-10@2/255+start=clean+momentum=1"
