"""What runs on an accelerator has the outcomes of the CPU, also where the device lacks operators; devices
that are mixed are noticed."""

import sys

import pytest
import torch
from imitation_accelerator import State

from attacks.algorithm import ALGORITHMS
from attacks.balls import Ball
from robustbench_coded import attack
from robustbench_coded.coding.codec import Codec
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.setup.prepare import prepare
from robustbench_coded.extras.verification.verify_run import verify_run
from robustbench_coded.paper.training.config import TrainConfig
from robustbench_coded.paper.training.loop import train
from tests.accelerator.conftest import CHECKPOINT, evaluated, same_on_both, tiny

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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attacks": ()},
        {"eps": (0.1, 0.3), "attacks": ("fgsm",), "norm": "l2"},
        {"attacks": ("square-20", "apgd-ce-5", "eot2-pgd-2", "relaxed-pgd-2"), "standard": False},
        {
            "defence": ("published:jpeg", "resize-pad", "published:randomised-smoothing"),
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
    same_on_both(device, tmp_path, defence=("noisy:build",))


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


@pytest.mark.parametrize("name", [name for name, entry in ALGORITHMS.items() if entry.module])
def test_an_attack_perturbs_as_on_the_cpu(device, name):
    network, x, y = tiny()
    steps = max(4, ALGORITHMS[name].fewest_steps)
    asked = name if name == "fgsm" else f"{name}-{steps}"
    eps, norm = (3, "l0") if ALGORITHMS[name].norms == ("l0",) else (0.1, "linf")
    on_cpu = attack(network, x, y, asked, eps, norm=norm, seed=0)
    on_device = attack(network.to(device), x.to(device), y.to(device), asked, eps, norm=norm, seed=0)
    assert str(on_device.device) == device
    torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=0, atol=1e-6)


@pytest.mark.parametrize("where", ["encoder", "labels", "start"])
def test_devices_that_are_mixed_on_purpose_are_noticed(device, tmp_path, monkeypatch, where):
    encoder, group, start = Codec.encoder, WorkerContext.group, Ball.random_sign

    def labels_left_behind(self, batches):
        x, y = group(self, batches)
        return x, y.cpu()

    match where:
        case "encoder":
            here = lambda self, **given: encoder(self, **{**given, "device": "cpu"})  # noqa: E731
            monkeypatch.setattr(Codec, "encoder", here)
        case "labels":
            monkeypatch.setattr(WorkerContext, "group", labels_left_behind)
        case "start":
            monkeypatch.setattr(Ball, "random_sign", lambda *given: start(*given).cpu())
    with pytest.raises(Exception, match="same device"):
        evaluated(device, tmp_path)
