"""Several devices: worker processes and Ray actors with one each, and a worker whose device is lost."""

from pathlib import Path

import imitation_accelerator as imitation
import pandas as pd
import pytest
import ray

from robustbench_coded.evaluation.engine import run as engine
from robustbench_coded.evaluation.engine.run import ProcessPool
from robustbench_coded.evaluation.session.listener import Listener
from tests.accelerator.conftest import ROOT, evaluated

pytestmark = pytest.mark.long


LOST = """
import os

gone = []  # in this process, for good

def build(model):
    def answer(x):
        if os.path.exists("lost"):
            os.remove("lost")
            gone.append(True)
        if gone:
            raise RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")
        return model(x)
    return answer
"""


class OnceLost(Listener):
    """The device is lost in the first unit."""

    lost = False

    def planned(self, plan, images, *, remade=0):
        if not self.lost:
            self.lost = True
            Path("lost").touch()


@pytest.fixture
def given_to(monkeypatch):
    """Workers have the imitated devices; the devices of those that get units, one for each unit."""
    found = []

    class Pool(ProcessPool):
        def assign(self, worker, job):
            found.append(self._workers[worker].device)
            super().assign(worker, job)

    monkeypatch.setattr(engine, "ProcessPool", Pool)
    monkeypatch.setattr(engine, "work", imitation.work)
    return found


def test_two_workers_on_two_devices_give_the_outcomes_of_the_cpu(device, tmp_path, given_to):
    _, on_cpu = evaluated("cpu", tmp_path)
    _, on_two = evaluated("imitation", tmp_path)
    pd.testing.assert_frame_equal(on_cpu, on_two)
    assert set(given_to) == {"imitation:0", "imitation:1"}


def test_a_unit_whose_worker_lost_its_device_is_tried_by_another(device, tmp_path, given_to, monkeypatch):
    (tmp_path / "loses.py").write_text(LOST)
    monkeypatch.chdir(tmp_path)
    options = {"defence": ("loses:build",), "standard": False, "attacks": ("fgsm",)}
    _, expected = evaluated("cpu", tmp_path, **options)
    _, found = evaluated("imitation", tmp_path, OnceLost(), **options)
    assert not Path("lost").exists()
    pd.testing.assert_frame_equal(found, expected)


def test_ray_gives_one_actor_a_device(device, tmp_path):
    _, on_cpu = evaluated("cpu", tmp_path)
    environment = {
        "env_vars": {"PYTHONPATH": str(ROOT / "tests")},
        "worker_process_setup_hook": imitation.appear,
    }
    free, seen = [], Listener()
    seen.unit_done = lambda *given: free.append(ray.available_resources().get("GPU", 0))
    ray.init(
        "local", num_cpus=4, num_gpus=2, runtime_env=environment, include_dashboard=False, log_to_driver=False
    )
    try:
        _, on_actors = evaluated("imitation", tmp_path, seen, engine="ray", workers=2)
    finally:
        ray.shutdown()
    pd.testing.assert_frame_equal(on_cpu, on_actors)
    assert min(free) == 0  # two actors had both
