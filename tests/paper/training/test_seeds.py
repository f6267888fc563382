import dataclasses

import pytest

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.loop import train_seeds
from tests.paper.training.conftest import config


def test_seeds_make_a_checkpoint_each_and_finished_ones_are_kept(npz, tmp_path):
    settings = config(npz, epochs=1, seed=2)
    out = tmp_path / "a.safetensors"
    series = train_seeds(settings, out, 2)
    assert [run.checkpoint.name for run in series] == ["a-seed2.safetensors", "a-seed3.safetensors"]
    assert [load_checkpoint(run.checkpoint).metadata["seed"] for run in series] == [2, 3]
    written = [run.checkpoint.stat().st_mtime_ns for run in series]
    longer = train_seeds(settings, out, 3)
    assert [run.checkpoint.stat().st_mtime_ns for run in longer[:2]] == written and len(longer) == 3
    for first, again in zip(series, longer):
        assert again.test == pytest.approx(first.test, abs=1e-6)


def test_a_checkpoint_of_other_settings_is_not_overwritten(npz, tmp_path):
    settings = config(npz, epochs=1, seed=2)
    out = tmp_path / "a.safetensors"
    later = dataclasses.replace(settings, seed=settings.seed + 1)
    train_seeds(later, tmp_path / "a-seed3.safetensors", 1)
    other = dataclasses.replace(settings, learning_rate=0.01)
    with pytest.raises(InputError, match=r"a-seed3\.safetensors is there already"):
        train_seeds(other, out, 2)
    assert not (tmp_path / "a-seed2.safetensors").exists()  # refused before the first of the two
