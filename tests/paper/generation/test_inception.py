"""FID and IS by torch-fidelity's network, with random weights: the published ones are not here."""

import hashlib
import io
import os
import sys

import numpy as np
import pytest
import torch

from robustbench_coded.cli.main import main
from robustbench_coded.paper.generation.features import Inception, frechet_distance, inception_score, moments
from robustbench_coded.paper.studies.paper import papers_set

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def network():
    """The library's class, at the smallest size of image that the network takes."""
    reason = "needs torch-fidelity (the extra fid)"
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason=reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)
        yield module.FeatureExtractorInceptionV3


@pytest.fixture(scope="module")
def weights(network):
    """Random ones that do not let all activations vanish."""

    class Untrained(network):
        def load_state_dict(self, state):
            return None

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Untrained("inception-v3-compat", ["2048"], nothing)
        for module in made.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return made.state_dict()


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(weights, path)
    return path


def random_images(path, count):
    draws = np.random.RandomState(0)
    x = draws.randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    np.savez(path, x=x, y=np.arange(count) % 10)
    return path


def command(out, file, data):
    return [
        "gan", "--data", f"npz:{data}", "--features", f"inception:{file}", "--n", "12", "--iterations", "1",
        "--samples", "100", "--batch-size", "8", "--seeds", "1", "--out", str(out), "--quiet",
    ]  # fmt: skip


def test_fid_and_is_stand_beside_the_papers_and_the_report_names_the_weights(tmp_path, file, capsys):
    data = random_images(tmp_path / "cifar10_train.npz", 12)
    assert main(command(tmp_path / "gan", file, data)) == 0
    report = " ".join((tmp_path / "gan" / "report.md").read_text().split())
    heads = "| Generator | Seeds | FID | FID less plain | FID, paper | IS | IS less plain | IS, paper |"
    assert heads in report
    assert "26.93 (0.61)" in report and "26.94 (0.89)" in report and "7.38 (0.06)" in report
    assert f"weights of SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}, not the file" in report
    assert "1 iterations, where the paper has 100,000" in report and "100 generated images" in report
    # The same folder measured by something else would hold figures of two networks.
    other = [*command(tmp_path / "gan", file, data), "--features", "cifar10-erm-resnet20"]
    capsys.readouterr()
    assert main(other) == 2
    assert "was measured by inception-v3" in capsys.readouterr().err


def test_figures_on_the_same_features_are_those_of_torch_fidelity(network, file):
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    draws = torch.Generator().manual_seed(0)
    one, other = torch.rand(70, 1, 8, 8, generator=draws), torch.rand(60, 1, 8, 8, generator=draws) ** 2
    inception = Inception(file, torch.device("cpu"))
    (features, logits), (others, _) = inception(one), inception(other)
    assert features.shape == (70, 2048) and logits.shape == (70, 1008)
    answered = inception._network((255 * one).round().to(torch.uint8).repeat(1, 3, 1, 1))
    torch.testing.assert_close(features, answered[0])
    # 24 of the features: the library takes minutes for 2048. More images than features, and fewer.
    for part in (slice(0, 24), slice(0, 96)):
        pair = [found[:, part].double().contiguous() for found in (features, others)]
        theirs = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(f) for f in pair), False)
        ours = frechet_distance(*(moments(f.numpy()) for f in pair))
        assert ours == pytest.approx(theirs[fid.KEY_METRIC_FID], rel=1e-4)
        assert ours > 0
    assert inception.score(logits.numpy()) == isc.isc_features_to_metric(logits)[isc.KEY_METRIC_ISC_MEAN]
    whole = isc.isc_features_to_metric(logits, splits=1, shuffle=False)[isc.KEY_METRIC_ISC_MEAN]
    assert inception_score(logits.double().softmax(1).numpy()) == pytest.approx(whole, rel=1e-9)


class RunsCode:
    def __reduce__(self):
        return (os.system, ("touch ran",))


def altered(weights, how):
    if how == "missing":
        return {name: tensor for name, tensor in weights.items() if name != "fc.weight"}
    if how == "shape":
        return {**weights, "fc.weight": torch.zeros(1000, 2048)}
    if how == "nan":
        return {**weights, "fc.bias": torch.full((1008,), float("nan"))}
    if how == "nested":
        return {"state_dict": dict(weights)}
    if how == "tensor":
        return torch.zeros(3)
    return {**weights, "more": RunsCode()}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", 'Missing key(s) in state_dict: "fc.weight"'),
        ("shape", "size mismatch for fc.weight"),
        ("nan", "fc.bias is not finite"),
        ("nested", "state_dict is no tensor"),
        ("tensor", "it holds no state dict"),
        ("code", "system"),
    ],
)
def test_wrong_files_are_refused_in_one_line_and_run_nothing(
    tmp_path, weights, monkeypatch, capsys, how, said
):
    monkeypatch.chdir(tmp_path)
    torch.save(altered(weights, how), tmp_path / "wrong.pth")
    data = random_images(tmp_path / "cifar10_train.npz", 4)
    assert main(command(tmp_path / "gan", tmp_path / "wrong.pth", data)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "wrong.pth: " in line and said in line
    assert not (tmp_path / "ran").exists() and not (tmp_path / "gan").exists()


def test_without_the_extra_one_line_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    data = random_images(tmp_path / "cifar10_train.npz", 4)
    assert main(command(tmp_path / "gan", tmp_path / "any.pth", data)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "pip install 'csrobust[fid]'" in line


def test_the_paper_has_figures_for_cifar10_alone():
    assert {papers_set(data) for data in ("cifar10", "npz:data/cifar10_train_10000.npz")} == {"cifar10"}
    assert {papers_set(data) for data in ("cifar100", "npz:my-cifar-100.npz")} == {"cifar100"}
    assert {papers_set(data) for data in ("digits", "npz:mnist.npz", "folder:cifar10x")} == {None}
