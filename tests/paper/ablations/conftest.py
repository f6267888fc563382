import numpy as np
import pytest

from robustbench_coded.data.registry import load_data
from robustbench_coded.paper.ablations.studies import AblationSettings, base_config


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """200 digits in a file, for training and testing."""
    data = load_data("digits", split="train").first(200)
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, x=np.asarray(data.images[np.arange(200)]) * 15, y=data.labels)
    return f"npz:{path}"


@pytest.fixture
def settings(few_digits):
    """An ablation that takes a tenth of a second a run."""
    base = base_config(
        "digits-cnn", few_digits, epochs=1, batch_size=32, learning_rate=0.02, device="cpu", compile=False
    )
    return AblationSettings(base, seeds=2, limit=40, draws=2, eps=0.1)
