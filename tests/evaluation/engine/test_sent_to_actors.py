"""Ray: what its actors get of the data, and a cluster that is not there."""

import pickle
import socket

import numpy as np
import pytest
from PIL import Image

from robustbench_coded.data.image_folders import load_folder
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.errors import InputError

pytest.importorskip("ray")
from robustbench_coded.extras import ray_actors
from robustbench_coded.extras.ray_actors import sent


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / str(number % 2) / f"{number}.png")
    return load_folder(tmp_path)


@pytest.mark.parametrize("rows", [None, np.array([4, 1, 5])])
def test_files_are_read_by_actors_of_this_machine_and_sent_to_others(folder, rows):
    data = folder if rows is None else folder.subset(rows)
    near, far = (pickle.loads(pickle.dumps(sent(data, here=here))) for here in (True, False))
    assert isinstance(far.images, np.ndarray) and not isinstance(near.images, np.ndarray)
    assert len(pickle.dumps(near)) < 64 * 64 * 3 < len(pickle.dumps(far))
    for other in (near, far):
        assert np.array_equal(other.images[np.arange(len(data))], data.images[np.arange(len(data))])


def test_of_an_array_only_the_rows_that_are_evaluated_are_sent():
    data = load_digits("test").subset(np.arange(3))
    assert sent(data, here=True).images.shape == (3, 8, 8, 1)
    assert isinstance(sent(data, here=True).images, np.ndarray)


def test_the_address_of_a_cluster_that_is_no_more_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=rf"^RAY_ADDRESS 127\.0\.0\.1:{port}: no Ray cluster answers there"):
        ray_actors._connect(f"127.0.0.1:{port}", 1)
