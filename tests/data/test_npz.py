import io
import pickle
import zipfile

import numpy as np
import pytest

from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError

X = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
Y = np.array([1, 0])


def save(path, **arrays):
    np.savez(path, **arrays)
    return load_data(f"npz:{path}")


def test_colour_grey_and_float_images_are_read(tmp_path):
    data = save(tmp_path / "a.npz", x=X, y=Y.astype(np.uint8))
    assert np.array_equal(data.images, X) and data.labels.dtype == np.int64 and data.classes == 2
    assert save(tmp_path / "b.npz", x=X[..., 0], y=Y).image_shape == (1, 4, 4)
    floats = save(tmp_path / "c.npz", x=X / 255, y=Y)
    assert floats.batch([1])[0].numpy() == pytest.approx(data.batch([1])[0].numpy(), abs=1e-7)
    assert np.array_equal(save(tmp_path / "f.npz", x=X.transpose(0, 3, 1, 2), y=Y).images, X)
    assert save(tmp_path / "d.npz", x=X, y=np.array([0.0, 41.0])).classes == 42
    assert save(tmp_path / "e.npz", x=X, y=np.array([0, 0])).classes == 2


NAN = np.where(np.arange(X.size).reshape(X.shape) == 7, np.nan, 0.5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"no array named y \(it holds x\)"),
        ({"images": X, "labels": Y}, r"no array named x or y \(it holds images, labels\)"),
        ({"x": X.astype(int), "y": Y}, r"got int64; where they go from 0 to 255, x.astype\('uint8'\)"),
        ({"x": X.astype(float), "y": Y}, r"got \[0, 95\]; divide"),
        ({"x": X / 255 - 0.1, "y": Y}, r"got \[-0.1.*Normalize"),
        ({"x": NAN, "y": Y}, "NaN"),
        ({"x": X[:, :, :, :2], "y": Y}, r"uint8 \[2, 4, 4, 2\]"),
        ({"x": X[0, 0], "y": Y}, r"uint8 \[4, 3\]"),
        ({"x": X[:0], "y": Y[:0]}, r"uint8 \[0, 4, 4, 3\]"),
        ({"x": X, "y": np.array([0])}, r"integers \[2\].*got int64 \[1\]"),
        ({"x": X, "y": np.array([0.0, 0.5])}, "got float64"),
        ({"x": X, "y": np.array([0, -1])}, "label -1 of image 1 is out of range"),
        ({"x": X, "y": np.array([2**40, 0])}, "label 1099511627776 of image 0"),
        ({"x": np.array([Y, None], dtype=object), "y": Y}, "Python objects"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message) as caught:
        save(tmp_path / "wrong.npz", **arrays)
    assert "wrong.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_truncated_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_data(f"npz:{tmp_path}/absent.npz")
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, x=X, y=Y)
    content = whole.read_bytes()
    for broken in (b"", b"not an archive", content[: len(content) // 2], pickle.dumps({"x": 1})):
        (tmp_path / "broken.npz").write_bytes(broken)
        with pytest.raises(InputError, match=r"not a readable \.npz"):
            load_data(f"npz:{tmp_path}/broken.npz")
    flipped = bytearray(content)
    middle = content.index(b"x.npy") + 150
    flipped[middle : middle + 20] = bytes(20)
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(InputError, match=r"flipped\.npz"):
        load_data(f"npz:{tmp_path}/flipped.npz")


def test_a_header_that_promises_more_than_is_stored_is_refused_before_memory_is_taken(tmp_path):
    header = io.BytesIO()
    shape = (10**9, 1000, 1000, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    labels = io.BytesIO()
    np.save(labels, Y)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
        archive.writestr("y.npy", labels.getvalue())
    with pytest.raises(InputError, match=r"x\.npy has another size than its header says"):
        load_data(f"npz:{tmp_path}/huge.npz")


def test_arrays_larger_than_memory_are_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "big.npz", x=X, y=Y)
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(InputError, match="do not fit into memory"):
        load_data(f"npz:{tmp_path}/big.npz")
