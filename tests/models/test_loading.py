"""Checkpoints as people save them: formats, nesting, prefixes, types, stored normalisations, own code."""

import io
import json
import re
import sys
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import describe, with_normalisation
from robustbench_coded.models.loading import check_data, load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.paper.training.loop import save_checkpoint
from tests.models.conftest import prefixed

IMAGENET = KNOWN[3]["imagenet"]


@pytest.fixture(scope="module")
def network():
    return build("digits-cnn", 10, 3).eval()


@pytest.fixture(scope="module")
def weights(network):
    return network.state_dict()


def pixels(channels=3, size=8):
    return torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def logits(checkpoint):
    return with_normalisation(checkpoint, pixels(), torch.zeros(4, dtype=torch.long))(pixels())


def normalised(network, normalisation=IMAGENET):
    shape = (1, -1, 1, 1)
    mean, std = (torch.tensor(values).view(shape) for values in (normalisation.mean, normalisation.std))
    return network((pixels() - mean) / std)


def buffers(mean="mean", std="std", shape=(1, 3, 1, 1)):
    return {mean: torch.tensor(IMAGENET.mean).view(shape), std: torch.tensor(IMAGENET.std).view(shape)}


@pytest.mark.parametrize("ending", ["pt", "pth", "th", "safetensors", "bin"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
def test_formats(tmp_path, weights, network, ending, legacy):
    path = tmp_path / f"some.model.{ending}"
    if ending == "safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=not legacy)
    checkpoint = load_checkpoint(path, normalize="none")
    assert (checkpoint.name, checkpoint.arch, checkpoint.classes, checkpoint.channels) == (
        "some.model",
        "digits-cnn",
        10,
        3,
    )
    assert torch.equal(logits(checkpoint), network(pixels()))
    assert not checkpoint.network.training
    assert not any(parameter.requires_grad for parameter in checkpoint.network.parameters())


def test_of_several_sets_of_weights_the_documented_one_is_taken(reloaded, weights, network):
    zeros = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    several = {"ema": zeros, "net": zeros, "state_dict": weights, "model": zeros}
    assert torch.equal(logits(reloaded(several, normalize="none")), network(pixels()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_other_float_types_are_evaluated_in_float32(tmp_path, weights, network, dtype, ending):
    stored = {name: t.to(dtype) if t.is_floating_point() else t for name, t in weights.items()}
    path = tmp_path / f"a.{ending}"
    torch.save(stored, path) if ending == "pt" else safetensors.torch.save_file(stored, path)
    checkpoint = load_checkpoint(path, normalize="none")
    assert {parameter.dtype for parameter in checkpoint.network.parameters()} == {torch.float32}
    expected = build("digits-cnn", 10, 3).eval()
    expected.load_state_dict({name: t.float() for name, t in stored.items()})
    assert torch.equal(logits(checkpoint), expected(pixels()))


def test_weights_saved_on_cuda_are_read_without_one(tmp_path, weights, network):
    torch.save(weights, tmp_path / "cpu.pt")
    with zipfile.ZipFile(tmp_path / "cpu.pt") as cpu, zipfile.ZipFile(tmp_path / "cuda.pt", "w") as cuda:
        for name in cpu.namelist():
            data = cpu.read(name)
            if name.endswith("data.pkl"):
                assert b"X\x03\x00\x00\x00cpu" in data
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1")
            cuda.writestr(name, data)
    assert torch.equal(logits(load_checkpoint(tmp_path / "cuda.pt", normalize="none")), network(pixels()))


def test_weights_without_counters_of_batches_are_complete(reloaded, weights, network):
    uncounted = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    checkpoint = reloaded(uncounted, normalize="none")
    assert torch.equal(logits(checkpoint), network(pixels()))
    assert not any(tensor.is_meta for tensor in checkpoint.network.state_dict().values())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {**buffers(), **w},
        lambda w: {**buffers(shape=(3,)), **w},
        lambda w: {**buffers("normalize.mean", "normalize.std", (3, 1, 1)), **prefixed("model.", w)},
        lambda w: prefixed("module.", {**buffers("0.mean", "0.std"), **prefixed("1.", w)}),
        lambda w: {**buffers("mu", "sigma"), **w},
        lambda w: {**{name: 255 * tensor for name, tensor in buffers().items()}, **w},
    ],
)
def test_a_stored_normalisation_is_found_and_used(reloaded, weights, network, wrap):
    checkpoint = reloaded(wrap(weights))
    assert (checkpoint.normalisation_source, checkpoint.normalisation) == ("stored", IMAGENET)
    assert torch.equal(logits(checkpoint), normalised(network))


def test_a_given_normalisation_comes_before_a_stored_one(reloaded, weights, network):
    checkpoint = reloaded({**buffers(), **weights}, normalize="cifar10-2023")
    assert checkpoint.normalisation_source == "given"
    assert torch.equal(logits(checkpoint), normalised(network, KNOWN[3]["cifar10-2023"]))


def test_one_number_for_all_channels(reloaded, weights):
    checkpoint = reloaded({"mean": torch.tensor([0.5]), "std": torch.tensor([0.25]), **weights})
    assert checkpoint.normalisation.mean == (0.5, 0.5, 0.5)


def test_without_any_images_and_labels_have_to_decide(reloaded, weights):
    checkpoint = reloaded(weights)
    assert (checkpoint.normalisation, checkpoint.normalisation_source) == (None, "unknown")
    with pytest.raises(InputError, match="answers as by chance"):
        logits(checkpoint)


def test_saved_checkpoints_come_back_with_their_metadata(tmp_path, network):
    metadata = {
        "arch": "digits-cnn",
        "classes": 10,
        "image_shape": [3, 8, 8],
        "normalisation": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
        "recipe": {"name": "erm", "epochs": 3},
    }
    save_checkpoint(tmp_path / "a.safetensors", network, metadata)
    save_checkpoint(tmp_path / "b.safetensors", network, dict(reversed(metadata.items())))
    checkpoint = load_checkpoint(tmp_path / "a.safetensors", name="mine")
    assert checkpoint.metadata == metadata
    assert checkpoint.name == "mine"
    assert checkpoint.normalisation.std == (0.4, 0.5, 0.6)
    assert torch.equal(logits(checkpoint), normalised(network, checkpoint.normalisation))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_metadata_settle_what_shapes_cannot(tmp_path):
    arch = "preact-resnet18-raw"
    network = build(arch, 10, 3).eval()
    save_checkpoint(tmp_path / "a.safetensors", network, {"arch": arch, "normalisation": "none"})
    checkpoint = load_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.arch == arch
    assert torch.equal(logits(checkpoint), network(pixels()))


@pytest.mark.parametrize("claim", ["resnet20", "no-such-network", "os:system", "wrn-28-10"])
def test_metadata_that_name_another_architecture_are_refused_and_a_stated_one_is_taken(
    tmp_path, network, claim
):
    save_checkpoint(tmp_path / "a.safetensors", network, {"arch": claim})
    with pytest.raises(
        InputError, match=rf"a\.safetensors: its metadata say {claim}: .*--arch file.py:build"
    ):
        load_checkpoint(tmp_path / "a.safetensors")
    stated = load_checkpoint(tmp_path / "a.safetensors", arch="digits-cnn", normalize="none")
    assert torch.equal(logits(stated), network(pixels()))


def test_a_weight_that_is_another_one_too_comes_back_from_safetensors(tmp_path):
    tied = build("resnet20", 10, 3)
    tied.layer1[1].conv1.weight = tied.layer1[0].conv1.weight
    safetensors.torch.save_model(tied, str(tmp_path / "tied.safetensors"))
    torch.save(tied.state_dict(), tmp_path / "tied.pt")
    stored = safetensors.torch.load_file(tmp_path / "tied.safetensors")
    assert not {"layer1.0.conv1.weight", "layer1.1.conv1.weight"} <= stored.keys()
    x = pixels(channels=3)
    there, here = (load_checkpoint(tmp_path / f"tied.{ending}").network for ending in ("safetensors", "pt"))
    assert torch.equal(there(x), tied.eval()(x)) and torch.equal(here(x), tied(x))


def test_a_folder_and_a_zip_of_checkpoints_say_what_is_in_them(tmp_path, weights):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    torch.save(weights, folder / "model.pt")
    with pytest.raises(InputError, match=r"not a file; name the file in it, .*downloaded/model\.pt"):
        load_checkpoint(folder)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "model.pt", "model.pt")
    with pytest.raises(InputError, match=r"a zip archive that holds model\.pt; unpack it first"):
        load_checkpoint(tmp_path / "all.zip")


def test_a_config_beside_unknown_weights_is_pointed_to(tmp_path):
    torch.save({"first.weight": torch.zeros(3, 3), "second.bias": torch.zeros(3)}, tmp_path / "a.pt")
    with pytest.raises(InputError) as without:
        load_checkpoint(tmp_path / "a.pt")
    assert "hf:" not in str(without.value)
    (tmp_path / "config.json").write_text('{"architecture": "convnext_atto"}')
    with pytest.raises(InputError, match=r"--arch hf: takes the network that config\.json describes"):
        load_checkpoint(tmp_path / "a.pt")


def test_saving_refuses_what_could_not_be_read_again(tmp_path, network):
    broken = build("digits-cnn", 10, 3)
    with torch.no_grad():
        broken.conv1.weight[0, 0, 0, 0] = torch.nan
    for bad, metadata in ((broken, {}), (network, {"accuracy": float("nan")})):
        with pytest.raises(ValueError):
            save_checkpoint(tmp_path / "a.safetensors", bad, metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, network, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, network, {})
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_inspect_says_everything_in_plain_data(tmp_path, reloaded, weights):
    stored = {
        "state_dict": {**prefixed("module.", weights), "module.sub_block1.w": torch.zeros(2)},
        "best_acc": 91.5,
    }
    facts = describe(reloaded(stored))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["architecture"] == "digits-cnn"
    assert facts["parameters"] == sum(tensor.numel() for name, tensor in weights.items() if name in LEARNED)
    assert facts["nesting"] == ["state_dict"]
    assert facts["prefixes_stripped"] == ["module."]
    assert facts["unused_weights"] == ["sub_block1.w"]
    assert facts["bytes"] == (tmp_path / "a.pt").stat().st_size
    assert (facts["normalisation"], facts["normalisation_source"]) == (None, "unknown")
    assert any("no normalisation is stored" in note for note in facts["notes"])


LEARNED = [f"{layer}.{kind}" for layer in ("bn1", "bn2", "bn3", "linear") for kind in ("weight", "bias")]
LEARNED += [f"conv{index}.weight" for index in (1, 2, 3)]


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((3, 8, 8), 100, r"a.safetensors: it answers 10 classes, cifar100 has 100"),
        ((1, 8, 8), 10, "takes 3-channel images, cifar100 has 1"),
        ((3, 32, 32), 10, "was made for 8x8 images, cifar100 has 32x32"),
    ],
)
def test_data_of_other_sizes_are_refused(tmp_path, network, shape, classes, message):
    save_checkpoint(tmp_path / "a.safetensors", network, {"image_shape": [3, 8, 8]})
    checkpoint = load_checkpoint(tmp_path / "a.safetensors")
    check_data(checkpoint, (3, 8, 8), 10, "cifar100")
    with pytest.raises(InputError, match=message):
        check_data(checkpoint, shape, classes, "cifar100")


def test_convolutions_take_any_size(reloaded, weights):
    check_data(reloaded(weights), (3, 48, 64), 10, "npz")


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("resnet20", r"a.pt: its weights are not those of resnet20, where \S+ is .* \(\d+ of \d+ differ\)"),
        ("digit-cnn", r"unknown architecture 'digit-cnn'; closest: digits-cnn"),
    ],
)
def test_a_wrong_architecture_is_refused_with_what_differs(reloaded, weights, arch, message):
    assert reloaded(weights, arch="digits-cnn").arch == "digits-cnn"
    with pytest.raises(InputError, match=message):
        reloaded(weights, arch=arch)


def test_two_stored_normalisations_that_differ_need_the_users_word(tmp_path, weights):
    path = tmp_path / "a.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in {**buffers(), **weights}.items()}
    safetensors.torch.save_file(tensors, path, {"csrobust": '{"normalisation": "cifar10"}'})
    with pytest.raises(InputError, match=r"it stores two normalisations, .* pass --normalize"):
        load_checkpoint(path)
    assert load_checkpoint(path, normalize="imagenet").normalisation == IMAGENET


PLUGIN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=4, inside=False):
        super().__init__()
        torch.rand(1)  # as constructors do
        self.features = nn.Conv2d(3, 5, 3)
        self.top = nn.Linear(5, classes)
        if inside:
            self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
            self.register_buffer("std", torch.ones(1, 3, 1, 1))
        self.inside = inside

    def forward(self, x):
        if self.inside:
            x = (x - self.mean) / self.std
        return self.top(self.features(x).relu().mean((2, 3)))

def plain(): return Net()
def sized(classes): return Net(classes)
def keyword(pretrained=False, num_classes=2): return Net(num_classes)
def inside(classes): return Net(classes, inside=True)
def number(): return 3

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Net()

    def forward(self, x):
        return self.model(x)
def failing(): raise KeyError("nothing\\nhere")
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    (tmp_path / "owncode.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("owncode", None)


def own_weights(classes):
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "features.weight": (5, 3, 3, 3),
        "features.bias": (5,),
        "top.weight": (classes, 5),
        "top.bias": (classes,),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize(("function", "classes"), [("plain", 4), ("sized", 7), ("keyword", 6)])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_an_architecture_from_own_code(tmp_path, reloaded, own_code, function, classes, prefix):
    weights = own_weights(classes)
    state = torch.get_rng_state()
    checkpoint = reloaded(prefixed(prefix, weights), arch=f"owncode:{function}", normalize="none")
    assert torch.equal(torch.get_rng_state(), state)
    assert (checkpoint.arch, checkpoint.classes, checkpoint.channels) == (f"owncode:{function}", classes, 3)
    features = nn.functional.conv2d(pixels(), weights["features.weight"], weights["features.bias"])
    expected = features.relu().mean((2, 3)) @ weights["top.weight"].T + weights["top.bias"]
    torch.testing.assert_close(logits(checkpoint), expected)
    assert str(tmp_path) not in sys.path


def test_own_code_that_normalises_by_itself_keeps_its_buffers(reloaded, own_code):
    weights = {**own_weights(4), **buffers()}
    inside, outside = (reloaded(weights, arch=f"owncode:{name}") for name in ("inside", "plain"))
    assert (inside.normalisation.name, outside.normalisation.name) == ("none", "imagenet")
    torch.testing.assert_close(logits(inside), logits(outside))


def test_own_code_may_use_a_prefix_that_others_wrap_with(reloaded, own_code):
    weights = {**prefixed("module.model.", own_weights(4)), **buffers("module.mean", "module.std")}
    wrapped, bare = (reloaded(weights, arch=f"owncode:{name}") for name in ("Wrapped", "plain"))
    assert (wrapped.normalisation, bare.normalisation) == (IMAGENET, IMAGENET)
    assert torch.equal(logits(wrapped), logits(bare))


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("owncode:number", "expected a torch.nn.Module, it returned a int"),
        ("owncode:failing", r"it raised KeyError: 'nothing\\nhere'"),
        ("../owncode:plain", "expected package.module:function or file.py:function"),
        (
            "owncode:keyword",
            r"not those of --arch owncode:keyword, where features.weight is missing \(2 of 4 differ\)",
        ),
    ],
)
def test_own_code_that_does_not_do(reloaded, own_code, arch, message):
    weights = own_weights(4)
    if arch == "owncode:keyword":
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("features")}
    with pytest.raises(InputError, match=message) as error:
        reloaded(weights, arch=arch)
    assert "\n" not in str(error.value)


def old_pickle(weights):
    """A file of torch before 1.0: its tensors have None where later ones have an empty dict of hooks."""
    stream = io.BytesIO()
    torch.save(weights, stream, _use_new_zipfile_serialization=False)
    # The empty OrderedDict that every tensor is rebuilt with, by its memoised class and an empty tuple.
    return re.sub(rb"(\x89)h\x00\)Rq.(?=tq)", rb"\1N", stream.getvalue())


def test_files_of_old_versions_of_torch_are_read(tmp_path, network):
    data = old_pickle(network.state_dict())
    assert data.count(b"\x89Nt") >= 12  # requires_grad False, then None
    (tmp_path / "a.pt").write_bytes(data)
    torch.load(tmp_path / "a.pt", weights_only=True)
    assert torch.equal(
        load_checkpoint(tmp_path / "a.pt", normalize="none").network(pixels()), network(pixels())
    )


def test_a_state_dict_alone_in_a_list_is_read_and_several_are_a_cascade(reloaded, network):
    weights = network.state_dict()
    entries = {"err": 0.2, "epoch": 3, "acc": torch.tensor(1), "sampler_indices": []}
    found = reloaded({"state_dict": [weights], **entries}, normalize="none")
    assert torch.equal(found.network(pixels()), network(pixels()))
    assert found.layout.nesting == ("state_dict",)
    with pytest.raises(InputError, match=r"a.pt: a list of 3 state dicts, a cascade whose networks"):
        reloaded({"state_dict": [weights] * 3, **entries})
