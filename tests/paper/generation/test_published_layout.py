"""Table 2 as published: CelebA's flat folder at 64 x 64, FID and inception score on Inception features."""

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_coded.cli.main import main
from robustbench_coded.errors import InputError
from robustbench_coded.paper.generation.study import (
    Inception,
    frechet_distance,
    inception_score,
    load_celeba,
    moments,
)

pytestmark = pytest.mark.long


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file with the published network's names and shapes, and random values."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *args, **kwargs: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("inception", ["2048"], "none")
    for module in network.modules():  # else nothing of an image reaches the last layer
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
    network.fc.weight.data *= 10  # else all images have nearly the same answer
    torch.nn.init.normal_(network.fc.bias)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def celeba(tmp_path):
    """Twelve faces of the published size: number 0 for training, 1 left out, 2 for testing."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = []
    for number in range(12):
        pixels = np.full((218, 178, 3), 20 * number, np.uint8)
        pixels[:10] = 255  # a margin that is cropped: 218 x 178 becomes 78 x 64, then 64 x 64
        name = f"{number + 1:06}.png"
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name)
        lines.append(f"{name} {number % 3}")
    (folder / "list_eval_partition.txt").write_text("\n".join(lines))
    return folder


def test_celeba_is_split_as_published_scaled_and_cropped(celeba):
    train, test = (load_celeba(celeba, split, 64) for split in ("train", "test"))
    assert train.image_shape == (3, 64, 64)
    for data, first in ((train, 0), (test, 2)):
        levels = (255 * data.batch(range(len(data)))[0]).round()
        assert levels.amin((1, 2, 3)).tolist() == levels.amax((1, 2, 3)).tolist()  # the margin is gone
        assert levels[:, 0, 0, 0].tolist() == [20 * (first + 3 * i) for i in range(4)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000001.png 3", "list_eval_partition.txt, line 1: expected an image in .* and 0, 1 or 2, found"),
        ("gone.png 0", "line 1: expected an image in .*img_align_celeba"),
        ("000001.png 1", r"names no train images \(number 0\)"),
    ],
)
def test_a_wrong_partition_is_named(celeba, line, message):
    (celeba / "list_eval_partition.txt").write_text(line)
    with pytest.raises(InputError, match=message):
        load_celeba(celeba, "train", 64)


def test_celeba_has_no_classes_to_evaluate(celeba, capsys):
    assert main(["eval", "--ckpt", "digits-erm", "--data", f"celeba:{celeba}"]) == 2
    assert "unknown data 'celeba:" in capsys.readouterr().err


def test_generators_of_64_pixels_are_measured_by_inception(celeba, weights, tmp_path, capsys, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setattr(FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)  # the least, for speed
    out = tmp_path / "gan"
    command = [
        "paper", "gan", "-o", f"data=celeba:{celeba}", "--features", f"inception:{weights}", "--n", "8",
        "-o", "batch_size=4", "-o", "iterations=1", "-o", "samples=100", "--seeds", "1", "--out", str(out),
    ]  # fmt: skip
    assert main([*command, "--quiet"]) == 0, capsys.readouterr().err
    assert np.load(out / "coded-n8-seed0" / "samples.npy").shape[1:] == (3, 64, 64)
    assert "FD (inception, " in (out / "report.md").read_text()


def test_distance_and_score_are_those_of_torch_fidelity(weights):
    from torch_fidelity import calculate_metrics

    generator = torch.Generator().manual_seed(1)
    colours = torch.randint(1, 256, (2, 12, 3, 2, 2), generator=generator)
    one, other = colours.repeat_interleave(16, 3).repeat_interleave(16, 4)
    other = (other + 1) // 2  # darker
    expected = calculate_metrics(
        input1=_Bytes(one), input2=_Bytes(other), fid=True, isc=True, isc_splits=1, cuda=False, verbose=False,
        feature_extractor_weights_path=str(weights), save_cpu_ram=True, cache=False,
    )  # fmt: skip
    network = Inception(str(weights), torch.device("cpu"))
    (mine, probabilities), (theirs, _) = (network((images - 0.4) / 255) for images in (one, other))
    distance = frechet_distance(*(moments(features.numpy()) for features in (mine, theirs)))
    assert distance == pytest.approx(expected["frechet_inception_distance"], rel=1e-3)
    assert torch.equal(mine, network._network(one.byte())[0])  # rounded to bytes
    score = inception_score(probabilities.numpy())
    assert 1.1 < score < 11, score
    assert score == pytest.approx(expected["inception_score_mean"], rel=1e-4)


class _Bytes(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images.byte()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row]


class _Runs:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_file_that_would_run_code_is_refused_unread(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": _Runs()}, path)
    with pytest.raises(InputError, match="expected the file weights-inception-2015-12-05"):
        Inception(str(path), torch.device("cpu"))
    assert "must not run" not in capsys.readouterr().out
