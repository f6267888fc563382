"""Shifted sets as data: corrupted here, and files that others published."""

import numpy as np
import pytest

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.paper.shift import sets
from robustbench_coded.paper.shift.corruptions import corrupt
from robustbench_coded.paper.shift.sets import CorruptedImages, sets_of

IMAGES = np.random.RandomState(0).randint(0, 256, (5, 8, 8, 1)).astype(np.uint8)
ROWS = np.arange(5)


def test_a_part_of_a_set_is_corrupted_as_within_the_whole():
    data = Dataset("d", IMAGES // 16, 15.0, ROWS, 5, (), "")
    whole = corrupt(IMAGES // 16 * 17, ROWS, "fog", 2, 0)
    images = CorruptedImages(data, "fog", 2)
    for rows in ([3, 1, 3], [0, 1]):  # some of them made before
        assert (images[np.array(rows)] == whole[rows]).all()
    assert (CorruptedImages(data, "fog", 4)[ROWS] != whole).any()


def test_a_corrupted_set_has_the_labels_and_the_examples_of_its_own(tmp_path):
    repeated = IMAGES[[0, 1, 1, 2, 3]]
    np.savez(tmp_path / "a.npz", x=repeated, y=np.array([0, 1, 1, 0, 1]))
    spec = f"npz:{tmp_path}/a.npz"
    data, shifted = load_data(spec), load_data(f"corrupted:{spec}/pixelate/5")
    assert (shifted.labels == data.labels).all() and shifted.reference.sha256 == data.sha256
    assert shifted.distinct.tolist() == data.distinct.tolist() == [0, 1, 3, 4]
    assert (shifted.batch(ROWS)[0].numpy()[:, 0] * 255).round().astype(np.uint8)[..., None].tolist() == (
        corrupt(repeated, ROWS, "pixelate", 5, 0).tolist()
    )


def test_sets_are_named_and_each_name_is_data(tmp_path):
    np.savez(tmp_path / "mine.npz", x=IMAGES, y=ROWS % 2)
    spec = f"npz:{tmp_path}/mine.npz"
    found = sets_of(spec, ("fog", "frost"), (1, 3), None)
    named = [(one.collection, one.name, one.severity) for one in found]
    assert named[:3] == [("mine-C (ours)", *end) for end in (("clean", 0), ("fog", 1), ("fog", 3))]
    assert [one.folder for one in found[::4]] == ["mine-c-ours-clean", "mine-c-ours-frost-3"]
    assert [load_data(one.data).name for one in found] == [one.data for one in found]
    assert len(sets_of(spec, (), (1,), None)) == 1 + 18  # of grey images


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("corrupted:digits", "as /fog/3"),
        ("corrupted:digits/fog/x", "as /fog/3"),
        ("corrupted:digits/fog/6", "fog 6: severities are 1, 2, 3, 4 and 5"),
        ("corrupted:digits/fogg/3", "fogg: no such corruption; did you mean fog"),
        ("corrupted:digits/saturate/3", "saturate: grey images have no colours"),
        ("corrupted:nothing/fog/3", "unknown data 'nothing'"),
    ],
)
def test_names_that_are_wrong_are_refused_in_one_line(spec, said):
    with pytest.raises(InputError, match=said) as refused:
        load_data(spec)
    assert "\n" not in str(refused.value)


def test_published_files_are_read_by_severity_and_with_all_their_images(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "CIFAR10C_IMAGES", 100)
    images = np.zeros((500, 32, 32, 3), dtype=np.uint8)
    images[200:300] = 3  # severity 3
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(500) % 10)
    found = sets_of(f"cifar10c:{tmp_path}", ("fog", "frost"), (1, 3), None)
    assert [(one.name, one.severity) for one in found] == [("fog", 1), ("fog", 3)]
    first, third = (load_data(one.data) for one in found)
    assert len(first.distinct) == len(third.distinct) == 100
    assert [float(data.batch(range(100))[0].max()) * 255 for data in (first, third)] == pytest.approx([0, 3])
    assert (np.bincount(third.labels) == 10).all()


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        ("cifar10c", {}, "labels.npy"),
        ("cifar10c", {"fog.npy": np.zeros((4, 32, 32, 3), np.uint8)}, "labels.npy can't be read"),
        ("cifar10.1", {}, "cifar10.1_v4_data.npy"),
        (
            "cifar10.1",
            {
                "cifar10.1_v6_data.npy": np.zeros((4, 3, 32, 32), np.uint8),
                "cifar10.1_v6_labels.npy": ROWS[:4],
            },
            "expected uint8",
        ),
        ("cifar10.2", {}, "cifar102_test.npz"),
    ],
)
def test_missing_and_wrong_files_are_named_in_one_line(tmp_path, kind, files, said):
    for name, array in files.items():
        np.save(tmp_path / name, array)
    with pytest.raises(InputError, match=said) as refused:
        for one in sets_of(f"{kind}:{tmp_path}", ("fog",), (1,), None):
            load_data(one.data)
    assert "\n" not in str(refused.value)


def test_the_two_versions_of_cifar101_are_sets_of_their_own(tmp_path):
    for version, count in (("v4", 3), ("v6", 2)):
        np.save(tmp_path / f"cifar10.1_{version}_data.npy", np.zeros((count, 32, 32, 3), np.uint8))
        np.save(tmp_path / f"cifar10.1_{version}_labels.npy", np.arange(count))
    np.savez(tmp_path / "cifar102_test.npz", images=np.zeros((1, 32, 32, 3), np.uint8), labels=ROWS[:1])
    for kind, expected in (("cifar10.1", {"v4": 3, "v6": 2}), ("cifar10.2", {"test": 1})):
        found = sets_of(f"{kind}:{tmp_path}", (), (1,), None)
        assert {one.name: len(load_data(one.data)) for one in found if not one.severity} == expected
