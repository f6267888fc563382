"""Images in files: folders of classes, scaled or as they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError


def write(path, level, size=(6, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode == "L" else (level, 0, 0)).save(path)


def make(root, names, mode="RGB"):
    for number, name in enumerate(names):
        write(root / name, number + 1, mode=mode)


NAMES = ["cat/b.png", "cat/a.PNG", "dog/a.png", "dog/c.bmp", "ant/z.png"]


def test_classes_are_in_order_of_name_and_pixels_are_exact(tmp_path):
    make(tmp_path, NAMES)
    data = load_data(f"folder:{tmp_path}")
    assert data.class_names == ("ant", "cat", "dog") and data.images.shape == (5, 4, 6, 3)
    level_to_class = {1: 1, 2: 1, 3: 2, 4: 2, 5: 0}
    x, y = data.batch(range(5))
    levels = (x[:, 0, 0, 0] * 255).round().int().tolist()
    assert sorted(levels) == [1, 2, 3, 4, 5] and [level_to_class[v] for v in levels] == y.tolist()


def test_folders_named_by_numbers_are_these_labels_and_any_may_be_missing(tmp_path):
    names = ["2/a.png", "10/a.png", "07/a.png"]
    make(tmp_path, names)
    data = load_data(f"folder:{tmp_path}")
    x, y = data.batch(range(3))
    levels = (x[:, 0, 0, 0] * 255).round().int().tolist()
    assert dict(zip(levels, y.tolist(), strict=True)) == {1: 2, 2: 10, 3: 7}
    assert (data.classes, data.of_all_classes(12).classes) == (11, 12)
    (note,) = data.notes
    assert "folder 07 is label 7; to torchvision's ImageFolder" in note and note.endswith("it is 0")
    with pytest.raises(InputError, match="it has 11 classes, and the network answers 10; name folders by"):
        data.of_all_classes(10)
    make(tmp_path, ["20240101/a.png"])  # a date
    assert load_data(f"folder:{tmp_path}").class_names == ("07", "10", "2", "20240101")


def test_classes_that_a_network_names_are_its_outputs_and_others_have_to_be_all(tmp_path):
    make(tmp_path, NAMES)
    data = load_data(f"folder:{tmp_path}")
    ordered = data.in_order_of({0: "dog", 1: "eel", 2: "cat", 3: "ant"})
    number = {"ant": 3, "cat": 2, "dog": 0}
    assert ordered.labels.tolist() == [number[data.class_names[label]] for label in data.labels]
    assert ordered.classes == ordered.of_all_classes(4).classes == 4
    assert data.in_order_of({0: "LABEL_0", 1: "dog", 2: "cat"}) is data
    with pytest.raises(InputError, match="it has 3 classes, and the network answers 4; name folders by the"):
        data.of_all_classes(4)


def test_gifs_are_read_and_what_is_left_out_is_counted(tmp_path):
    make(tmp_path, ["a/1.png", "a/2.jfif", "b/3.GIF"], mode="L")
    data = load_data(f"folder:{tmp_path}")
    assert data.image_shape == (1, 4, 6) and len(data) == 3 and data.notes == ()
    for name in ("a/1.heic", "b/c/notes.txt", "b/.hidden", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    (note,) = load_data(f"folder:{tmp_path}").notes
    assert ": 3 files are left out; " in note


def test_copies_of_a_file_repeat_its_image_and_files_of_its_size_do_not(tmp_path):
    make(tmp_path, NAMES)
    for copy in ("cat/copy.png", "ant/of-another-class.png"):
        (tmp_path / copy).write_bytes((tmp_path / "cat/b.png").read_bytes())
    data = load_data(f"folder:{tmp_path}")
    x, y = data.batch(data.distinct)
    levels = (x[:, 0, 0, 0] * 255).round().int().tolist()
    assert len(data) == 7 and sorted(zip(levels, y.tolist())) == [
        (1, 0),
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 0),
    ]


def test_order_does_not_depend_on_the_file_system_or_place(tmp_path, monkeypatch):
    names = [f"{c}/{i}.png" for c in "xy" for i in range(12)]
    make(tmp_path / "one", names)
    one = load_data(f"folder:{tmp_path}/one")
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(listing(self), reverse=True)))
    make(tmp_path / "two", names)
    two = load_data(f"folder:{tmp_path}/two")
    assert one.sha256 == two.sha256
    assert one.labels.tolist() != sorted(one.labels.tolist())


def test_grey_images_have_one_channel_and_grey_ones_among_coloured_three(tmp_path):
    make(tmp_path / "grey", NAMES, mode="L")
    assert load_data(f"folder:{tmp_path}/grey").batch([0])[0].shape == (1, 1, 4, 6)
    make(tmp_path / "mixed", NAMES)
    write(tmp_path / "mixed/dog/grey.png", 9, mode="L")
    assert load_data(f"folder:{tmp_path}/mixed").batch(range(6))[0].shape == (6, 3, 4, 6)


def test_split_folders_are_followed(tmp_path):
    make(tmp_path / "train", ["a/1.png", "b/1.png", "b/2.png"])
    make(tmp_path / "val", ["a/1.png", "b/1.png"])
    assert len(load_data(f"folder:{tmp_path}", split="train")) == 3
    assert len(load_data(f"folder:{tmp_path}")) == 2


def test_folders_that_hold_no_classes_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_data(f"folder:{tmp_path}/absent")
    with pytest.raises(InputError, match="has 0 folders"):
        load_data(f"folder:{tmp_path}")
    make(tmp_path, ["cat/a.png"])
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match="dog: no images"):
        load_data(f"folder:{tmp_path}")


def test_images_of_another_size_or_damaged_ones_are_refused(tmp_path):
    make(tmp_path, NAMES)
    data = load_data(f"folder:{tmp_path}")
    write(tmp_path / "dog/a.png", 1, size=(5, 5))
    with pytest.raises(InputError, match="is 5 x 5, the first image is 4 x 6; give folder:DIR@SIZE"):
        data.batch(range(5))
    noise = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "dog/a.png")
    content = (tmp_path / "dog/a.png").read_bytes()
    for damaged, message in ((content[:60], "damaged image"), (b"no image", "not a readable image")):
        (tmp_path / "dog/a.png").write_bytes(damaged)
        with pytest.raises(InputError, match=message):
            data.batch(range(5))


def test_a_coloured_image_among_grey_ones_is_refused(tmp_path):
    make(tmp_path, NAMES, mode="L")
    data = load_data(f"folder:{tmp_path}")
    write(tmp_path / "dog/c.bmp", 200)
    with pytest.raises(InputError, match=r"c\.bmp: is coloured \(RGB\), the first images are grey"):
        data.batch(range(5))


def test_images_of_any_size_are_scaled_and_cropped_from_the_middle(tmp_path):
    """A white square in the middle of a black wide image, another in a tall one: both fill the crop."""
    for name, (width, height) in (
        ("a/wide.png", (160, 80)),
        ("b/tall.png", (40, 90)),
        ("b/same.png", (16, 16)),
    ):
        image = Image.new("L", (width, height))
        side = min(width, height)
        image.paste(
            255, ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2)
        )
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save(tmp_path / name)
    data = load_data(f"folder:{tmp_path}@14")
    x, _ = data.batch(range(3))
    assert x.shape == (3, 1, 14, 14) and x.min() == 1
    with pytest.raises(InputError, match="from 4 to 4096"):
        load_data(f"folder:{tmp_path}@3")
    make(tmp_path / "place@14", NAMES)
    assert load_data(f"folder:{tmp_path}/place@14").image_shape == (3, 4, 6)


def test_images_in_folders_below_the_class_are_found(tmp_path):
    make(tmp_path / "train", ["n01/images/1.png", "n02/images/1.png", "n02/2.png"])
    assert load_data(f"folder:{tmp_path}", split="train").labels.tolist().count(1) == 2


def tiny_imagenet(root, lines):
    """The published layout: training images by class, a folder of validation images, unlabelled test ones."""
    make(root / "train", ["n01/images/n01_0.png", "n02/images/n02_0.png"])
    make(root / "val", ["images/val_0.png", "images/val_1.png", "images/val_2.png"])
    make(root / "test", ["images/test_0.png"])
    (root / "train/.thumbnails").mkdir()  # no class, wherever the classes are read
    (root / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    return load_data(f"folder:{root}")


def test_tiny_imagenet_is_read_as_published(tmp_path):
    lines = ["val_0.png\tn02\t0\t0\t5\t5", "val_1.png\tn01\t0\t0\t5\t5", "val_2.png\tn02\t0\t0\t5\t5"]
    data = tiny_imagenet(tmp_path, lines)
    x, y = data.batch(range(3))
    levels = (x[:, 0, 0, 0] * 255).round().int().tolist()
    assert dict(zip(levels, y.tolist(), strict=True)) == {1: 1, 2: 0, 3: 1}
    assert data.class_names == ("n01", "n02")
    assert load_data(f"folder:{tmp_path}", split="train").class_names == data.class_names


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "val_9.png\tn01",
            "line 1: expected an image in .*images and one of the 2 classes in .*train, found",
        ),
        ("val_0.png\tn09", "found 'val_0.png.tn09'"),
        ("val_0.png", "found 'val_0.png'"),
    ],
)
def test_an_annotation_of_no_image_or_class_is_refused(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        tiny_imagenet(tmp_path, [line])
