"""The test bed refuses and counts what a device does; which devices are named, and what is said of those that
are not there."""

import pytest
import torch
from imitation_accelerator import State

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.device import device_named

pytestmark = pytest.mark.long


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
