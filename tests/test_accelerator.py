"""What runs on an accelerator, on the imitation of one: outcomes are those of the CPU; attacks hardly wait
for it; memory that runs out and operators that are lacking change no word.
"""

import importlib
import sys
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import imitation_accelerator as imitation
import pandas as pd
import pytest
import ray
import torch
from imitation_accelerator import State

from attacks.accelerator import lacks
from attacks.catalogue import CATALOGUE
from attacks.estimators import FreshDraws
from attacks.estimators.base_model import PlainModel
from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded import attack
from robustbench_coded.coding.codec import Codec
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.engine import run as engine
from robustbench_coded.engine import worker
from robustbench_coded.engine.worker_pool import ProcessPool
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.device import device_named, gradient_of_sum, images_that_fit
from robustbench_coded.evaluation.setup import prepare as preparation
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.session.evaluate import IncompleteRun, evaluate
from robustbench_coded.session.listener import Listener
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.loop import train
from robustbench_coded.verification.verify_run import verify_run

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "checkpoints" / "digits-erm.safetensors"
pytestmark = pytest.mark.long

NOISY = '''
import torch

class Noisy(torch.nn.Module):
    """Draws its noise on the device, from the generator there."""
    def __init__(self, model):
        super().__init__()
        self.model = model
    def forward(self, x):
        return self.model((x + 0.05 * torch.randn_like(x)).clamp(0, 1))

def build(model):
    return Noisy(model)
'''


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """The first of two devices, present in this test alone."""
    imitation.register()
    for name, value in (
        ("present", True),
        ("limit_bytes", None),
        ("last", 0),
        ("ran_out", 0),
        ("float64", True),
        ("channels_last", True),
    ):
        monkeypatch.setattr(State, name, value)
    State.waits.clear()
    lacks.cache_clear()
    yield "imitation:0"
    lacks.cache_clear()


def evaluated(device, folder, listener=None, **options):
    """The run folder of a small evaluation, and what it says of each row."""
    given = {
        "checkpoints": (("erm", str(CHECKPOINT)),),
        "data": "digits",
        "defences": ("rci:N=1.5K",),
        "attacks": ("fgsm", "pgd-3", "aware-pgd-2"),
        "eps": (0.3,),
        "limit": 16,
        "batch_sizes": (8,),
        "draws": 2,
        "selection_draws": 2,
        "threads": 1,
    }
    out = folder / device.replace(":", "-")
    path = evaluate(EvalConfig(**{**given, **options}, device=device, out=out), listener)
    return path, pd.read_csv(path / "summary.csv")


def same_on_both(device, tmp_path, **options):
    """Whether the CPU and the device say the same; returns the device's folder."""
    _, on_cpu = evaluated("cpu", tmp_path, **options)
    path, on_device = evaluated(device, tmp_path, **options)
    pd.testing.assert_frame_equal(on_cpu, on_device)
    assert State.peak[0] > 0 and State.waits  # it did run there
    return path


def test_the_imitation_refuses_what_a_device_refuses(device):
    x, y = torch.ones(3), torch.ones(3).to(device)
    with pytest.raises(RuntimeError, match="same device"):
        x + y
    with pytest.raises(RuntimeError, match="same device"):
        torch.where(y > 0, y, x)
    with pytest.raises(RuntimeError, match="same device"):
        torch.nn.Linear(3, 2)(y)
    with pytest.raises(RuntimeError, match="same device"):
        y + x.to("imitation:1")
    with pytest.raises(RuntimeError):
        y.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device=device, generator=torch.Generator())
    State.float64 = False
    with pytest.raises(TypeError, match="float64"):
        y.double()


def test_the_imitation_counts_waits_and_memory(device):
    x = torch.ones(1000).to(device)
    before = State.allocated[0]
    assert bool((x > 0).all()) and x.sum().item() == 1000 and x.tolist()[0] == x.cpu()[0] == 1
    assert sum(State.waits.values()) == 4
    State.limit_bytes = before + 4000
    y = x + 1  # exactly what is left
    with pytest.raises(torch.OutOfMemoryError):
        x + 2
    del y
    assert State.allocated[0] == before


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attacks": ()},
        {"eps": (0.1, 0.3), "attacks": ("fgsm",), "norm": "l2"},
        {"attacks": ("square-20", "apgd-ce-5", "eot2-pgd-2", "relaxed-pgd-2"), "standard": False},
        {
            "defences": ("published:jpeg", "resize-pad", "published:randomised-smoothing"),
            "attacks": ("pgd-2",),
            "limit": 8,
        },
    ],
    ids=["rci", "controls", "sweep", "attacks", "published"],
)
def test_an_evaluation_gives_the_outcomes_of_the_cpu(device, tmp_path, options):
    same_on_both(device, tmp_path, **options)


def test_a_plugin_that_draws_on_the_device_gives_the_outcomes_of_the_cpu(device, tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(NOISY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "noisy", raising=False)
    same_on_both(device, tmp_path, defences=("noisy:build",))


def test_what_the_device_lacks_is_said_once_and_avoided(device, tmp_path):
    State.float64 = State.channels_last = False
    same_on_both(device, tmp_path)
    config = EvalConfig(checkpoints=(("erm", str(CHECKPOINT)),), data="digits", limit=16, device=device)
    said = [note for note in prepare(config).notes if "float64" in note]
    assert len(said) == 1 and "imitation:0 has no channels-last and no float64" in said[0]


def test_perturbed_inputs_of_a_device_are_verified(device, tmp_path):
    path, _ = evaluated(device, tmp_path, save_adversarials=True, attacks=("pgd-2",))
    for where in ("cpu", device):
        rows = verify_run(path, device=where)
        assert rows and not any(row.problem or row.differing for row in rows)


def test_training_gives_the_weights_of_the_cpu(device, tmp_path):
    made = {}
    for where in ("cpu", device):
        out = tmp_path / f"{where.replace(':', '')}.safetensors"
        train(TrainConfig("digits-cnn", "digits", epochs=1, batch_size=512, device=where, compile=False), out)
        made[where] = out.read_bytes()
    assert made["cpu"] == made[device]


def tiny():
    """A network of digits, 16 images and the labels that it gives them."""
    x, _ = load_digits("test").batch(range(16))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval().requires_grad_(False)
    return network, x, network(x).argmax(1)


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_attack_perturbs_as_on_the_cpu(device, name):
    network, x, y = tiny()
    steps = max(4, CATALOGUE[name].fewest_steps)
    asked = name if name == "fgsm" else f"{name}-{steps}"
    on_cpu = attack(network, x, y, asked, 0.1)
    on_device = attack(network.to(device), x.to(device), y.to(device), asked, 0.1)
    assert str(on_device.device) == device
    torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=0, atol=1e-6)


class Noise(torch.nn.Module):
    """Random, so that no attack stops early."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x + 0.01 * torch.randn_like(x))


@pytest.mark.parametrize(
    ("name", "norm", "most"),
    [("pgd", "linf", 0), ("pgd", "l2", 1), ("apgd-ce", "linf", 0), ("square", "linf", 0)],
)
def test_a_step_does_not_wait_for_the_device(device, name, norm, most):
    network, x, y = tiny()
    network, x, y = Noise(network).eval().to(device), x.to(device), y.to(device)
    waits = []
    for steps in (8, 16):
        State.waits.clear()
        attack(network, x, y, f"{name}-{steps}", 0.1, norm=norm)
        waits.append(sum(State.waits.values()))
    assert waits[1] - waits[0] <= 8 * most


def test_nan_in_a_loss_is_noticed_at_the_end(device):
    network, x, y = tiny()
    estimator = FreshDraws(PlainModel(network.to(device)))
    nan = lambda logits, y: logits.sum(-1) * torch.nan  # noqa: E731
    x, y = x.to(device)[None], y.to(device)[None]
    estimator.gradient(x, y, nan)
    with pytest.raises(ValueError, match="without NaN, got 16"):
        estimator.check_losses()


@pytest.mark.parametrize(
    ("name", "said"),
    [("imitation:2", "has 2 IMITATION devices"), ("xpu", "has 0 XPU devices"), ("toaster", "is not known")],
)
def test_a_device_that_is_not_there_is_refused(name, said):
    with pytest.raises(InputError, match=said):
        device_named(name)


def test_the_accelerator_is_taken_where_there_is_one(monkeypatch):
    assert device_named("auto").type == device_named(None).type == "imitation"
    monkeypatch.setattr(State, "present", False)
    assert device_named("auto").type == "cpu"


def test_group_sizes_follow_the_memory_that_an_image_takes(device):
    network, x, _ = tiny()
    network = network.to(device)
    x = x.to(device)
    wide = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4096), torch.nn.Linear(4096, 10)).to(
        device
    )
    State.limit_bytes = State.allocated[0] + 2**20
    few, many = (
        images_that_fit(x.device, partial(gradient_of_sum, model, x[:4]), 4, 10_000)
        for model in (wide, network)
    )
    assert 1 <= few < many / 8
    assert images_that_fit(x.device, partial(gradient_of_sum, network, x), len(x), 16) == 16


class LimitedOncePlanned(Listener):
    """Takes memory away when group sizes have been measured and planned, as another program does."""

    def __init__(self, spare):
        self.spare = spare

    def planned(self, plan, forecast):
        State.limit_bytes = State.limit_bytes or State.allocated[0] + self.spare


SMALL_RUN = {"limit": 64, "attacks": ("pgd-3",)}
LIMITS = 10


@cache
def most_memory(images):
    """What a run says on the device, and the most bytes that a unit takes with so many images a forward."""
    taken, real = [], worker.execute

    def execute(context, unit):
        before = State.allocated[0]
        result = real(context, unit)
        taken.append(State.peak[0] - before)
        return result

    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(worker, "execute", execute)
        patch.setattr(preparation, "images_in_one_forward", lambda *given: images)
        _, table = evaluated("imitation:0", Path(folder), **SMALL_RUN)
    return table, max(taken)


@pytest.mark.parametrize("place", range(LIMITS))
def test_memory_that_runs_out_costs_a_run_one_retry(device, tmp_path, place):
    """Between what groups of one batch need and what the largest ones do, at equal ratios."""
    (expected, most), (_, least) = most_memory(2048), most_memory(8)
    assert most > 8 * least
    spare = int(1.02 * least * (most / least) ** (place / LIMITS))
    _, table = evaluated(device, tmp_path, LimitedOncePlanned(spare), **SMALL_RUN)
    pd.testing.assert_frame_equal(table, expected)
    assert State.ran_out == 1


def test_a_run_for_which_one_batch_is_too_much_says_so(device, tmp_path):
    spare = most_memory(8)[1] // 4
    with pytest.raises(IncompleteRun, match=r"units failed.*OutOfMemoryError"):
        evaluated(device, tmp_path, LimitedOncePlanned(spare), **SMALL_RUN)


@pytest.mark.parametrize("where", ["encoder", "labels", "start"])
def test_devices_that_are_mixed_on_purpose_are_noticed(device, tmp_path, monkeypatch, where):
    encoder, group, start = Codec.encoder, WorkerContext.group, PerturbationBudget.random_sign

    def labels_left_behind(self, batches):
        x, y = group(self, batches)
        return x, y.cpu()

    match where:
        case "encoder":
            here = lambda self, perm=None, **given: encoder(self, perm, **{**given, "device": "cpu"})  # noqa: E731
            monkeypatch.setattr(Codec, "encoder", here)
        case "labels":
            monkeypatch.setattr(WorkerContext, "group", labels_left_behind)
        case "start":
            monkeypatch.setattr(PerturbationBudget, "random_sign", lambda *given: start(*given).cpu())
    with pytest.raises(Exception, match="same device"):
        evaluated(device, tmp_path)


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

    def planned(self, plan, forecast):
        if not self.lost:
            self.lost = True
            Path("lost").touch()


@pytest.fixture
def given_to(monkeypatch):
    """Workers have the imitated devices; the devices of those that get units, one for each unit."""
    found = []

    class Pool(ProcessPool):
        def __init__(self, setup, devices):
            super().__init__(setup, devices, imitation.work)

        def assign(self, worker, job):
            found.append(self._workers[worker].device)
            super().assign(worker, job)

    monkeypatch.setattr(engine, "ProcessPool", Pool)
    return found


def test_two_workers_on_two_devices_give_the_outcomes_of_the_cpu(device, tmp_path, given_to):
    _, on_cpu = evaluated("cpu", tmp_path)
    path, on_two = evaluated("imitation", tmp_path)
    pd.testing.assert_frame_equal(on_cpu, on_two)
    assert set(given_to) == {"imitation:0", "imitation:1"}
    assert pd.read_csv(path / "timings.csv").peak_memory_bytes.min() > 0  # each on its own device


def test_a_unit_whose_worker_lost_its_device_is_tried_by_another(device, tmp_path, given_to, monkeypatch):
    (tmp_path / "loses.py").write_text(LOST)
    monkeypatch.chdir(tmp_path)
    options = {"defences": ("loses:build",), "standard": False, "attacks": ("fgsm",)}
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
        path, on_actors = evaluated("imitation", tmp_path, seen, engine="ray", workers=2)
    finally:
        ray.shutdown()
    pd.testing.assert_frame_equal(on_cpu, on_actors)
    assert min(free) == 0  # two actors had both
    assert pd.read_csv(path / "timings.csv").peak_memory_bytes.min() > 0


def test_table_3_runs_on_the_device(device, monkeypatch):
    pytest.importorskip("torchattacks")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table3 = importlib.import_module("table3_gpu")
    found = {}
    for where in ("cpu", device):
        setting = table3.Setting("digits-erm", "digits", 16, 0.3, torch.device(where), ("fgsm",), batch=8)
        found[where], _ = table3.measure(setting, ("TF32", "bfloat16"))
    for on_cpu, on_device in zip(found["cpu"], found[device], strict=True):
        rounding = (
            0.1 if on_cpu.precision == "bfloat16" else 0
        )  # which signs it changes depends on the groups
        assert on_device.accuracy == pytest.approx(on_cpu.accuracy, abs=rounding, rel=0)
        assert on_device.memory > 0
