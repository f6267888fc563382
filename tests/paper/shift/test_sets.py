"""Sets one behind the other, corrupted here, and files that others published."""

import pickle

import numpy as np
import pytest

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError
from robustbench_coded.paper.shift import run as published
from robustbench_coded.paper.shift.run import (
    SetBlocks,
    ShiftSet,
    block_starts,
    corrupted_sets,
    published_sets,
)

IMAGES = np.random.RandomState(0).randint(0, 256, (5, 8, 8, 1)).astype(np.uint8)


def test_blocks_begin_with_a_new_batch_and_are_filled_up_by_their_own_beginning():
    other = 255 - IMAGES
    sets = [ShiftSet("c", "a", 0, IMAGES[[4, 3, 2]], np.zeros(3)), ShiftSet("c", "b", 0, other, np.zeros(5))]
    blocks = SetBlocks(sets, k=4)
    assert block_starts([3, 5], 4).tolist() == [0, 4, 12] and blocks.shape == (12, 8, 8, 1)
    places = np.array([11, 0, 3, 4, 9])
    expected = [other[2], IMAGES[4], IMAGES[4], other[0], other[0]]
    assert (blocks[places] == np.stack(expected)).all()
    assert (pickle.loads(pickle.dumps(blocks))[places] == blocks[places]).all()


def test_a_part_of_a_set_is_corrupted_as_within_the_whole():
    data = Dataset("d", IMAGES // 16, 15.0, np.arange(5), 5, (), "")
    whole = corrupted_sets("c", data, ["fog"], [2, 4], 0)
    assert [(one.name, one.severity) for one in whole] == [("clean", 0), ("fog", 2), ("fog", 4)]
    assert (whole[0].images == IMAGES // 16 * 17).all()
    part = corrupted_sets("c", data.subset(np.array([3, 1])), ["fog"], [2], 0)[1]
    assert (part.images == whole[1].images[[3, 1]]).all() and part.labels.tolist() == [3, 1]
    assert (corrupted_sets("c", data, ["fog"], [2], 1)[1].images != whole[1].images).any()


def test_published_files_are_read_by_severity_and_the_same_images_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "CIFAR10C_IMAGES", 100)
    images = np.zeros((500, 32, 32, 3), dtype=np.uint8)
    images[200:300] = 3  # severity 3
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(500) % 10)
    sets = published_sets("cifar10c", tmp_path, ("fog", "frost"), (1, 3), limit=20, first=False, seed=0)
    assert [(one.name, one.severity, len(one)) for one in sets] == [("fog", 1, 20), ("fog", 3, 20)]
    assert (sets[0].labels == sets[1].labels).all() and (np.bincount(sets[0].labels) == 2).all()
    assert [int(one.images.max()) for one in sets] == [0, 3]


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        ("cifar10c", {}, "labels.npy"),
        ("cifar10.1", {}, "cifar10.1_v4_data.npy"),
        ("cifar10.1", {"cifar10.1_v6_data.npy": np.zeros((4, 3, 32, 32), np.uint8)}, "expected uint8"),
        ("cifar10.2", {}, "cifar102_test.npz"),
    ],
)
def test_missing_and_wrong_files_are_named_in_one_line(tmp_path, kind, files, said):
    for name, array in files.items():
        np.save(tmp_path / name, array)
    with pytest.raises(InputError, match=said) as refused:
        published_sets(kind, tmp_path, ("fog",), (1,), limit=None, first=False, seed=0)
    assert "\n" not in str(refused.value)


def test_the_two_versions_of_cifar101_are_sets_of_their_own(tmp_path):
    for version, count in (("v4", 3), ("v6", 2)):
        np.save(tmp_path / f"cifar10.1_{version}_data.npy", np.zeros((count, 32, 32, 3), np.uint8))
        np.save(tmp_path / f"cifar10.1_{version}_labels.npy", np.arange(count))
    sets = published_sets("cifar10.1", tmp_path, (), (), limit=None, first=False, seed=0)
    assert [(one.name, len(one), one.severity) for one in sets] == [("v4", 3, 0), ("v6", 2, 0)]
