"""The examples that fell furthest, their pictures, and ``csrobust show``."""

import io
import json

import numpy as np
import pytest
import torch
from matplotlib import image
from safetensors.numpy import save

from robustbench_coded.cli.commands.show import show_command
from robustbench_coded.errors import InputError
from robustbench_coded.reports.images import clean_image, perturbed_image, triptych, write_clean_images
from robustbench_coded.reports.load import load_run
from robustbench_coded.reports.worst import pictures_of, worst_examples
from robustbench_coded.runs.adversarials import EVERY, Adversarials, encoded

ACCURACIES = {
    ("clean", "batch/unknown"): (0.9, 0.75),
    ("random-sign", "batch/unknown"): (0.9, 0.75),
    ("pgd-10", "batch/unknown"): (0.5, 0.5),
    ("transfer-pgd-20", "batch/unknown"): (None, 0.25),
}


def images(examples=128, channels=3, side=4):
    return np.random.default_rng(0).random((examples, channels, side, side))


def keep_images(path, x, attack="transfer-pgd-20"):
    """What ``--save-adversarials`` leaves: clean images, and an attack's with one corner moved."""
    run = load_run(path)
    write_clean_images(path, np.arange(len(x)), x)
    key = next(row.key for row in run.rows if row.key.attack == attack and row.key.defence == "rci")
    (unit,) = run.units_of(key)
    clean = torch.from_numpy(x).float().view(4, 32, *x.shape[1:])
    perturbed = clean.clone()
    perturbed[..., 0, 0] = (perturbed[..., 0, 0] + 0.125) % 1
    kept = Adversarials()
    kept.add(range(4), [EVERY] * 4, None, clean, perturbed)
    (path / "adversarials" / f"{unit}.safetensors").write_bytes(encoded(kept.tensors()) or b"")
    return perturbed.flatten(0, 1).numpy()


def test_those_that_lost_most_draws_come_first(make_run):
    run = load_run(make_run(accuracies=ACCURACIES))
    found = worst_examples(run)
    assert len(found) == 12
    assert {w.key.attack for w in found} == {"transfer-pgd-20"}
    lost = [w.right_clean - w.right for w in found]
    assert lost == sorted(lost, reverse=True)
    o = run.outcomes
    scored = o[(o.purpose == "scoring") & (o.defence == "rci")]
    for worst in found:
        own = scored[(scored.attack == "transfer-pgd-20") & (scored.example == worst.example)]
        clean = scored[(scored.attack == "clean") & (scored.example == worst.example)]
        assert (own.prediction == own.label).sum() == worst.right
        assert (clean.prediction == clean.label).sum() == worst.right_clean
        assert sum(worst.answers.values()) == worst.draws == 4
        assert worst.margin == pytest.approx(own.margin.mean())
    right = (scored.prediction == scored.label).groupby([scored.attack.astype(str), scored.example]).sum()
    assert lost[0] == (right["clean"] - right["transfer-pgd-20"]).max()


def test_pictures_show_the_kept_images(make_run):
    path = make_run(accuracies=ACCURACIES)
    x = images()
    perturbed = keep_images(path, x)
    run = load_run(path)
    worst = worst_examples(run)
    found = pictures_of(run, worst)
    assert all(picture is not None for picture in found)
    shown = (image.imread(io.BytesIO(found[0]))[..., :3] * 255).round().astype(int).transpose(2, 0, 1)
    clean = (x[worst[0].example] * 255).round().astype(int)
    np.testing.assert_array_equal(shown[:, :, :4], clean)
    np.testing.assert_array_equal(shown[:, :, 12:], (perturbed[worst[0].example] * 255).round().astype(int))
    change = shown[:, :, 6:10]
    assert (np.abs(change[:, 1:, :] - 127.5) < 2).all()  # unmoved pixels are grey
    assert (np.abs(change[:, 0, 0] - 127.5) > 10).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_triptych_has_colour_whatever_the_channels(channels):
    clean = np.zeros((channels, 5, 6), dtype=np.uint8)
    picture = triptych(clean, np.full((channels, 5, 6), 0.5, dtype=np.float32))
    assert image.imread(io.BytesIO(picture)).shape[:2] == (5, 3 * 6 + 2 * 2)
    assert triptych(clean, np.zeros((channels, 5, 7), dtype=np.float32)) is None


def hostile_files():
    x = np.zeros((1, 3, 4, 4), dtype=np.float32)
    ints = {name: np.zeros(1, dtype=np.int64) for name in ("batch", "victim", "evaluation", "slot")}
    parts = {**ints, "known": np.full(1, -1), "x": x}
    yield "text", b"not a file of tensors"
    yield "empty", b""
    yield "cut", save(parts)[:-10]
    yield "names", save({"x": x})
    yield "shape", save({**parts, "x": np.zeros((1, 2, 4, 4), dtype=np.float32)})
    yield "size", save({**parts, "x": np.zeros((1, 1, 1, 4000), dtype=np.float32)})
    yield "nan", save({**parts, "x": np.full((1, 3, 4, 4), np.nan, dtype=np.float32)})
    yield "slots", save({**parts, "slot": np.arange(7)})


@pytest.mark.parametrize("content", [pytest.param(c, id=name) for name, c in hostile_files()])
def test_a_file_that_holds_something_else_gives_no_picture(tmp_path, content):
    unit = "a" * 20
    folder = tmp_path / "adversarials"
    folder.mkdir()
    (folder / f"{unit}.safetensors").write_bytes(content)
    (folder / "clean.safetensors").write_bytes(content)
    assert perturbed_image(tmp_path, [unit, "../../etc/passwd"], 0, 0) is None
    assert clean_image(tmp_path, 0) is None


def test_show_prints_a_run_and_one_of_its_examples(make_run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = make_run(accuracies=ACCURACIES)
    assert show_command(path) == 0
    out = capsys.readouterr().out
    assert "Verdict:" in out
    assert "examples that fell furthest" in out
    assert show_command(path, 5, as_json=True) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(row["inference"], row["attack"]) for row in data["rows"]][:2] == [
        ("Standard inference", "clean"),
        ("Standard inference", "random-sign"),
    ]
    assert {row["label"] for row in data["rows"]} == {"5"}
    assert show_command(path, 5) == 0
    assert "transfer-pgd-20" in capsys.readouterr().out


def test_show_refuses_an_example_that_is_not_there(make_run):
    with pytest.raises(InputError, match=r"--example 128: .* its examples are 0 to 127"):
        show_command(make_run(accuracies=ACCURACIES), 128)
