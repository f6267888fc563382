"""The state dict in a file, whatever training programs put around it."""

import re
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.fresh import build
from tests.models.conftest import prefixed


@pytest.fixture(scope="module")
def network():
    return build("digits-cnn", 10, 3, generator=torch.Generator().manual_seed(5)).eval()


@pytest.fixture
def weights(network):
    return dict(network.state_dict())


def other():
    return build("digits-cnn", 10, 3, generator=torch.Generator().manual_seed(6)).state_dict()


ADAM = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}

WRAPPED = {
    "last": (lambda w: {"last": w}, "last", None),
    "last beside best": (
        lambda w: {"best": other(), "last": w},
        "last",
        r"the weights are those under last; FILE#best evaluates another",
    ),
    "ema": (lambda w: {"ema": {"module": w}}, "ema", None),
    "training state": (
        lambda w: {
            "model_state_dict": w,
            "optimizer_state_dict": ADAM,
            "epoch": 3,
            "loss": torch.tensor(0.1),
        },
        "model_state_dict",
        None,
    ),
    "unknown entry": (
        lambda w: {"student_weights": w, "optimizer": ADAM, "acc": 0.9},
        "student_weights",
        None,
    ),
    "compiled and parallel": (lambda w: prefixed("_orig_mod.module.", w), None, None),
    "parallel and compiled": (lambda w: prefixed("module._orig_mod.", w), None, None),
    "averaged": (
        lambda w: {"ema": {**prefixed("module.", w), "n_averaged": torch.tensor(7)}},
        "ema",
        None,
    ),
    "lightning": (lambda w: {"state_dict": prefixed("model.", w), "global_step": 7}, "state_dict", None),
    "backbone": (lambda w: prefixed("backbone.", w), None, None),
    "encoder": (lambda w: {"state_dict": prefixed("module.encoder.", w)}, "state_dict", None),
    "any prefix": (lambda w: prefixed("student.inner.", w), None, None),
    "beside an attacker": (
        lambda w: {
            **prefixed("module.model.", w),
            **prefixed("module.attacker.model.", w),
            "module.normalizer.new_mean": torch.zeros(3, 1, 1),
            "module.normalizer.new_std": torch.ones(3, 1, 1),
        },
        None,
        None,
    ),
    "far below": (lambda w: {"run": {"trainer": {"model": w}}, "optimizer": ADAM}, "run", None),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_the_network_inside_is_found_and_what_was_done_is_said(reloaded, network, weights, wrapped):
    wrap, nest, note = WRAPPED[wrapped]
    checkpoint = reloaded(OrderedDict(wrap(weights)), normalize="none")
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(checkpoint.network(x), network(x))
    assert checkpoint.arch == "digits-cnn"
    assert nest is None or checkpoint.layout.nesting[0] == nest
    joined = " | ".join(checkpoint.notes)
    if note is None:
        assert len(checkpoint.notes) == 1, joined
    else:
        assert re.search(note, joined), joined


def test_a_normalisation_beside_the_copy_of_an_attacker_is_the_networks(reloaded, weights):
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    inside = {
        **prefixed("module.model.", weights),
        **prefixed("module.attacker.model.", weights),
        **{f"module.{name}.new_mean": mean for name in ("normalizer", "attacker.normalize")},
        **{f"module.{name}.new_std": std for name in ("normalizer", "attacker.normalize")},
    }
    found = reloaded(inside)
    assert found.normalisation_source == "stored"
    assert found.normalisation.mean == pytest.approx((0.5, 0.4, 0.3))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            lambda w: {"student": w, "teacher": w},
            "weights under student, teacher; name one, as FILE#student",
        ),
        (
            lambda w: {"optimizer": ADAM, "epoch": 3},
            "no weights in it; expected a state dict, alone or under",
        ),
        (
            lambda w: {**prefixed("a.", w), **prefixed("b.", w)},
            "a known network is one of several parts of the file; FILE#a evaluates another",
        ),
        (
            lambda w: {n: t for n, t in prefixed("backbone.", w).items() if "bn2" not in n},
            r"nearest is digits-cnn, where backbone.bn2.weight is missing \(4 of 17 differ\); pass --arch "
            r"torchvision:NAME, .* whose build\(\) returns the network without weights: "
            r"csrobust eval --ckpt \S+/a.pt --arch file.py:build$",
        ),
        (
            lambda w: {n: t for n, t in prefixed("inner.most.", w).items() if "bn2" not in n},
            r"nearest is digits-cnn, where inner.most.bn2.weight is missing \(4 of 17 differ\); pass --arch",
        ),
    ],
    ids=["two entries", "no weights", "two networks", "incomplete", "incomplete behind any prefix"],
)
def test_what_is_not_settled_is_refused_in_one_line(reloaded, weights, contents, message):
    with pytest.raises(InputError, match=message) as error:
        reloaded(contents(weights))
    assert "\n" not in str(error.value)


def behind_prefixes(w):
    return {"state_dict": {**prefixed("net.", other()), **prefixed("mean_teacher.", w)}}


@pytest.mark.parametrize(
    ("contents", "entry"),
    [
        (lambda w: {"student": other(), "teacher": w}, "teacher"),
        (lambda w: {"state_dict": other(), "ema": {"module": prefixed("module.", w)}}, "ema"),
        (lambda w: {"checkpoint": {"model": other(), "model_ema": w}}, "model_ema"),
        (behind_prefixes, "mean_teacher"),
    ],
)
def test_an_entry_is_named_behind_the_file(tmp_path, network, weights, contents, entry):
    torch.save(contents(weights), tmp_path / "a.pt")
    found = load_checkpoint(f"{tmp_path / 'a.pt'}#{entry}")
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found.network(x), network(x))
    assert not any("evaluates another" in note for note in found.notes)
    with pytest.raises(InputError, match=f"no weights under nothing in it; it has .*{entry}|name one, as"):
        load_checkpoint(f"{tmp_path / 'a.pt'}#nothing")


def test_another_entry_is_another_identity_and_a_file_of_that_name_none(tmp_path, reloaded, weights):
    both = reloaded({"model": other(), "ema": weights})
    assert "the weights are those under model; FILE#ema evaluates another (ema)" in both.notes
    assert (
        len({both.sha256, *(load_checkpoint(f"{both.path}#{one}").sha256 for one in ("model", "ema"))}) == 3
    )
    torch.save(weights, tmp_path / "a.pt#ema")
    assert load_checkpoint(tmp_path / "a.pt#ema").layout.nesting == ()


def test_settings_are_no_further_network(reloaded, weights):
    assert len(reloaded({"model": weights, "params": {"lr": 0.1}}).notes) == 1


def test_a_part_of_a_network_is_not_evaluated_as_the_whole(tmp_path, reloaded):
    """A purifier in front of a classifier, say, whose names and shapes fit."""
    classifier, purifier = build("resnet20", 10, 3), nn.Conv2d(3, 3, 3, padding=1)
    whole = nn.ModuleDict({"purifier": purifier, "model": classifier})
    message = "a known network is one of several parts of the file; FILE#module.model evaluates"
    with pytest.raises(InputError, match=message):
        reloaded({"net": nn.DataParallel(whole).state_dict()})
    alone = load_checkpoint(f"{tmp_path / 'a.pt'}#module.model")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(alone.network(x), classifier.eval()(x))


def test_a_network_of_the_users_that_has_the_parts_itself_is_given_them(tmp_path, reloaded, monkeypatch):
    (tmp_path / "normed.py").write_text(
        "from torch import nn\n"
        "def net(classes=10):\n"
        "    layer = nn.utils.parametrizations.weight_norm(nn.Linear(192, classes))\n"
        "    return nn.Sequential(nn.Flatten(), layer)\n"
    )
    monkeypatch.chdir(tmp_path)
    layer = parametrizations.weight_norm(nn.Linear(192, 10))
    network = nn.Sequential(nn.Flatten(), layer)
    found = reloaded(network.state_dict(), arch="normed:net").network
    assert torch.equal(found[1].parametrizations.weight.original1, layer.parametrizations.weight.original1)


def renamed(weights, **modules):
    """Weights under other names of modules."""
    return {
        ".".join([modules.get(first, first), *rest]): tensor
        for (first, *rest), tensor in ((name.split("."), tensor) for name, tensor in weights.items())
    }


@pytest.mark.parametrize("arch", [None, "resnet20"])
def test_modules_under_other_names_are_not_guessed_by_their_shapes_and_order(reloaded, arch):
    """Two modules of one shape may stand in another order in another definition."""
    weights = build("resnet20", 10, 3).state_dict()
    with pytest.raises(InputError, match=r"resnet20, where conv1\.weight is missing.*--arch file.py:build"):
        reloaded(renamed(weights, conv1="conv", bn1="bn", linear="classifier"), arch=arch)
