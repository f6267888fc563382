import dataclasses

import numpy as np
import pytest

from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.config import TrainConfig
from robustbench_coded.paper.training.loop import train_seeds


@pytest.fixture
def config(tmp_path):
    data = load_data("digits", split="train").first(100)
    np.savez(tmp_path / "few.npz", x=np.asarray(data.images[np.arange(100)]) * 15, y=data.labels)
    return TrainConfig("digits-cnn", f"npz:{tmp_path}/few.npz", epochs=1, batch_size=30, seed=2, device="cpu")


def test_seeds_make_a_checkpoint_each_and_finished_ones_are_kept(config, tmp_path):
    out = tmp_path / "a.safetensors"
    series = train_seeds(config, out, 2)
    assert [run.checkpoint.name for run in series.runs] == ["a-seed2.safetensors", "a-seed3.safetensors"]
    assert [load_checkpoint(run.checkpoint).metadata["seed"] for run in series.runs] == [2, 3]
    trained = []
    longer = train_seeds(config, out, 3, listeners=lambda path: trained.append(path.name) or ())
    assert trained == ["a-seed4.safetensors"]
    for first, again in zip(series.runs, longer.runs):
        assert again.test == pytest.approx(first.test, abs=1e-6)


def test_a_checkpoint_of_other_settings_is_not_overwritten(config, tmp_path):
    out = tmp_path / "a.safetensors"
    later = dataclasses.replace(config, seed=config.seed + 1)
    train_seeds(later, out, 1)
    other, trained = dataclasses.replace(config, learning_rate=0.01), []
    with pytest.raises(InputError, match=r"a-seed3\.safetensors is there already"):
        train_seeds(other, out, 2, listeners=lambda path: trained.append(path.name) or ())
    assert not trained  # refused before the first of the two
