import pytest

from robustbench_coded.paper.ablations.studies import AblationSettings, base_config


@pytest.fixture
def settings(npz):
    """An ablation that takes a tenth of a second a run."""
    base = base_config(
        arch="digits-cnn", data=npz, epochs=1, batch_size=32, learning_rate=0.02, device="cpu", compile=False
    )
    return AblationSettings(base, seeds=2, limit=40, draws=2, eps=0.1)
