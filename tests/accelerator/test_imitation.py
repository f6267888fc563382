"""The test bed refuses and counts what a device does; which devices are named, and what is said of those that
are not there."""

import pytest
from imitation_accelerator import State

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.device import device_named

pytestmark = pytest.mark.long


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
