"""Images for trainings that take a second."""

import numpy as np
import pytest

from robustbench_coded.data.registry import load_data


@pytest.fixture(scope="session")
def npz(tmp_path_factory):
    """200 digits in a file: enough to learn something, few enough for several runs."""
    data = load_data("digits", split="train").subset(np.arange(200))
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, x=np.asarray(data.images[np.arange(200)]) * 15, y=data.labels)
    return f"npz:{path}"
