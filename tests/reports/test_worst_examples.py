"""The examples with the largest drop in margin, their pictures, and ``csrobust show``."""

import io
import json

import numpy as np
import pytest
from matplotlib import image
from safetensors.numpy import save

from robustbench_coded.cli.commands.runs import show_command
from robustbench_coded.errors import InputError
from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.run.examples import picture_file, pictures_of, triptych, worst_examples
from robustbench_coded.reports.write import write_reports, write_reports_of
from robustbench_coded.runs.pictures import MOST, Pictures, lowest, read_picture

pytestmark = pytest.mark.long

ACCURACIES = {
    ("clean", "batch/unknown"): (0.9, 0.75),
    ("random-sign", "batch/unknown"): (0.9, 0.75),
    ("pgd-10", "batch/unknown"): (0.5, 0.5),
    ("transfer-pgd-20", "batch/unknown"): (None, 0.25),
}


def images(examples=128, channels=3, side=4):
    return np.random.default_rng(0).random((examples, channels, side, side))


def keep_images(path, x, attack="transfer-pgd-20"):
    """What a unit of an attack leaves: pictures of those with the lowest margins, one corner moved."""
    run = load_run(path)
    key = next(
        row.case for row in run.results if row.case.attack == attack and row.case.subject.defence == "rci"
    )
    (unit,) = run.units_of(key)
    o = run.outcomes
    own = o[(o.purpose == "scoring") & (o.defence == "rci") & (o.attack == attack)]
    margin = own.groupby("example").margin.mean().to_numpy()
    perturbed = x.copy()
    perturbed[..., 0, 0] = (perturbed[..., 0, 0] + 0.125) % 1
    pictures = Pictures()
    for part in np.split(np.arange(len(x)), 4):
        chosen = part[lowest(margin[part])]
        pictures.add(chosen, margin[chosen], x[chosen], perturbed[chosen])
    file = path / "pictures" / f"{unit}.safetensors"
    file.parent.mkdir()
    file.write_bytes(pictures.encoded())
    return perturbed


def test_a_unit_keeps_its_lowest_margins_whatever_the_order():
    x = images()
    margin = np.random.default_rng(1).normal(size=len(x)).round(1)  # some are equal
    for order in (np.arange(len(x)), np.random.default_rng(2).permutation(len(x))):
        pictures = Pictures()
        for part in np.split(order, 8):
            pictures.add(part, margin[part], x[part], x[part])
        kept = [example for _, example, _, _ in pictures.selection]
        assert kept == sorted(range(len(x)), key=lambda i: (margin[i], i))[:MOST]
    assert Pictures().encoded() is None


def test_those_that_lost_most_draws_come_first(make_run):
    run = load_run(make_run(accuracies=ACCURACIES))
    found = worst_examples(run)
    assert len(found) == 12
    assert {w.case.attack for w in found} == {"transfer-pgd-20"}
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
    shown = [(w, picture) for w, picture in zip(worst, found, strict=True) if picture is not None]
    assert shown
    first, picture = shown[0]
    pixels = (image.imread(io.BytesIO(picture))[..., :3] * 255).round().astype(int).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels[:, :, :4], (x[first.example] * 255).round().astype(int))
    np.testing.assert_array_equal(pixels[:, :, 12:], (perturbed[first.example] * 255).round().astype(int))
    change = pixels[:, :, 6:10]
    assert (np.abs(change[:, 1:, :] - 127.5) < 2).all()  # unmoved pixels are grey
    assert (np.abs(change[:, 0, 0] - 127.5) > 10).all()


def test_a_finished_run_keeps_the_pictures_that_it_shows(make_run):
    path = make_run(accuracies=ACCURACIES)
    keep_images(path, images())
    (shown,) = (path / "pictures").iterdir()
    other = shown.with_name(f"{'b' * 20}.safetensors")
    other.write_bytes(shown.read_bytes())
    write_reports(path)
    assert other.exists()
    write_reports_of(load_run(path), final=True)
    assert list((path / "pictures").iterdir()) == [shown]
    assert "data:image/png" in (path / "report.html").read_text()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_triptych_has_colour_whatever_the_channels(channels):
    clean, perturbed = (np.full((channels, 5, 6), value, dtype=np.uint8) for value in (0, 128))
    assert image.imread(io.BytesIO(triptych(clean, perturbed))).shape[:2] == (5, 3 * 6 + 2 * 2)


def hostile_files():
    x = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    parts = {"example": np.zeros(1, dtype=np.int64), "clean": x, "perturbed": x}
    yield "text", b"not a file of tensors"
    yield "empty", b""
    yield "cut", save(parts)[:-10]
    yield "names", save({"clean": x})
    yield "none", save({**parts, "example": np.ones(1, dtype=np.int64)})
    yield "shape", save({**parts, "perturbed": np.zeros((1, 3, 4, 5), dtype=np.uint8)})
    yield "channels", save({**parts, "clean": x[:, :2], "perturbed": x[:, :2]})
    yield (
        "size",
        save({**parts, **dict.fromkeys(("clean", "perturbed"), np.zeros((1, 1, 1, 4000), np.uint8))}),
    )
    yield "floats", save({**parts, "clean": x.astype(np.float32)})
    yield "fewer", save({**parts, "example": np.array([7, 0]), "clean": x[:1]})


@pytest.mark.parametrize("content", [pytest.param(c, id=name) for name, c in hostile_files()])
def test_a_file_that_holds_something_else_gives_no_picture(tmp_path, content):
    file = tmp_path / "pictures" / f"{'a' * 20}.safetensors"
    file.parent.mkdir()
    file.write_bytes(content)
    assert read_picture(file, 0) is None
    assert picture_file(tmp_path, ["a" * 20, "../../etc/passwd"], 0) is None


def test_show_prints_a_run_and_one_of_its_examples(make_run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = make_run(accuracies=ACCURACIES)
    assert show_command(path) == 0
    out = capsys.readouterr().out
    assert "transfer-pgd-20" in out
    assert show_command(path, 5, as_json=True) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["attack"] for row in data["rows"]][:2] == ["clean", "random-sign"]
    assert {row["label"] for row in data["rows"]} == {"5"}
    assert show_command(path, 5) == 0
    assert "transfer-pgd-20" in capsys.readouterr().out


def test_show_refuses_an_example_that_is_not_there(make_run):
    with pytest.raises(InputError, match=r"--example 128: .* its examples are 0 to 127"):
        show_command(make_run(accuracies=ACCURACIES), 128)
