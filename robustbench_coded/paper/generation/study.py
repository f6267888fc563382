"""Plain and coded generators over seeds, trained into one folder and measured by Frechet distance and
inception score, by a checkpoint or by the published Inception network.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.image_folders import ImageFiles, Preprocessing, listed_images
from robustbench_coded.data.registry import load_data, sized
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup import checkpoints
from robustbench_coded.installation import install_line
from robustbench_coded.models import loading
from robustbench_coded.paper.generation.report import FACTS, write_gan_report
from robustbench_coded.paper.generation.train import GanConfig, train
from robustbench_coded.paper.training.loader import Progress
from robustbench_coded.runs.atomic import remove_unfinished, write_text

# Figures of generated images: Frechet distance (arXiv 1706.08500) and inception score (arXiv 1606.03498).
#
# Both are computed on the features and probabilities of whatever network one names; they carry its name, and
# values of two networks are not comparable.


class Moments(NamedTuple):
    """Attributes:
    mean: of features, [d].
    root: [r, d], r at most d; its transpose times itself is the features' covariance.
    """

    mean: NDArray[np.float64]
    root: NDArray[np.float64]


def moments(features: NDArray[np.floating]) -> Moments:
    """Of features [n, d], n at least 2."""
    array = np.asarray(features, np.float64)
    mean = array.mean(axis=0)
    root = (array - mean) / np.sqrt(len(array) - 1)
    if len(root) > root.shape[1]:
        values, vectors = np.linalg.eigh(root.T @ root)
        root = (vectors * np.sqrt(np.clip(values, 0, None))).T
    return Moments(mean, root)


def frechet_distance(own: Moments, other: Moments) -> float:
    """Squared 2-Wasserstein distance of the normal distributions with these moments.

    The trace of the root of the product of two covariances is the sum of the singular values of the product
    of their roots. Equal to torch-fidelity's FID, which takes eigenvalues of a product that is not symmetric.
    """
    gap = own.mean - other.mean
    cross = np.linalg.svd(own.root @ other.root.T, compute_uv=False).sum()
    return float(max(gap @ gap + (own.root**2).sum() + (other.root**2).sum() - 2 * cross, 0.0))


def inception_score(probabilities: NDArray[np.floating]) -> float:
    """exp of the mean divergence of answers [n, classes] from their mean: 1 to the number of classes."""
    p = np.asarray(probabilities, np.float64)
    terms = p * (np.log(np.clip(p, 1e-30, None)) - np.log(np.clip(p.mean(axis=0), 1e-30, None)))
    return float(np.exp(terms.sum(axis=1).mean()))


_EXAMPLES = 512  # by which a normalisation is recognised
AT_ONCE = 500  # images of one forward


class Classifier:
    """A checkpoint that answers with what enters its last linear layer, and with probabilities.

    Args:
        path: the checkpoint; only weights are read, nothing in it is run.
        data: images that it was made for.

    Raises:
        InputError: it can't be read, was made for other images, or ends in no linear layer.
    """

    def __init__(self, path: str | Path, data: Dataset, device: torch.device):
        checkpoint = loading.load_checkpoint(str(path))
        # Images without classes have one.
        classes = data.classes if data.classes > 1 else checkpoint.classes
        loading.check_data(checkpoint, data.image_shape, classes, data.name)
        model = checkpoints.with_normalisation(checkpoint, *data.batch(range(min(_EXAMPLES, len(data)))))
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise InputError(f"{path}: a classifier without a linear layer has no features to measure by")
        self.name = f"{checkpoint.arch}, {checkpoint.sha256[:12]}"
        self._model = model.to(device).eval()
        self._device = device
        self._entered: list[Tensor] = []
        linear[-1].register_forward_pre_hook(lambda module, inputs: self._entered.append(inputs[0]))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, d] and probabilities [n, classes] of images [n, C, S, S] in [0, 1]."""
        self._entered.clear()
        probabilities = self._model(images.to(self._device)).softmax(dim=1).cpu()
        # A model answers many images in pieces.
        return torch.cat([piece.flatten(1).cpu() for piece in self._entered]), probabilities


class Inception:
    """The network of the published FID and inception score, from a file of torch-fidelity's weights.

    Features are the 2,048 values before its last layer, probabilities come from that layer without its bias,
    and images are 8-bit, as torch-fidelity and the scores' authors have them.

    Args:
        path: ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity.

    Raises:
        InputError: torch-fidelity is not installed, or the file does not hold this network's weights alone.
    """

    def __init__(self, path: str, device: torch.device):
        where = f"--features inception:{path}"
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise InputError(f"{where}: needs torch-fidelity; {install_line('fid')}") from error
        try:
            torch.load(path, weights_only=True)  # torch-fidelity would run what else the file holds
            network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], path)
        except Exception as error:
            raise InputError(
                f"{where}: expected the file weights-inception-2015-12-05-6726825d.pth of torch-fidelity "
                f"({type(error).__name__})"
            ) from error
        self.name = f"inception, {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}"
        self._network = network.to(device).eval()
        self._device = device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, 2048] and probabilities [n, 1008] of images [n, C, H, W] in [0, 1]."""
        pixels = (255 * images).round().byte().expand(-1, 3, -1, -1)
        outputs = [self._network(piece.to(self._device)) for piece in pixels.split(_INCEPTIONS)]
        features, logits = (torch.cat(pieces).cpu() for pieces in zip(*outputs, strict=True))
        return features, logits.softmax(dim=1)


_INCEPTIONS = 50  # of 299 x 299 at a time
Network = Callable[[Tensor], tuple[Tensor, Tensor]]


def measuring(features: str, data: Dataset, device: torch.device) -> Classifier | Inception:
    """The network that ``--features`` names: ``inception:FILE`` or a checkpoint."""
    kind, _, path = features.partition(":")
    return Inception(path, device) if kind == "inception" else Classifier(features, data, device)


def answers(network: Network, pieces: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Features and probabilities of all images of the pieces, each [n, C, H, W]."""
    features, probabilities = zip(*map(network, pieces))
    return torch.cat(features).numpy(), torch.cat(probabilities).numpy()


CPU = torch.device("cpu")
CELEBA_SIZE = 64  # of the paper


def study(
    configs: Sequence[GanConfig],
    features: str,
    folder: Path,
    *,
    seeds: int,
    data_dir: Path | None = None,
    device: torch.device = CPU,
    quiet: bool = False,
) -> Path:
    """Trains every configuration with ``seeds`` seeds, measures them by one network, and reports.

    The same call goes on where it stopped. The seeds come first, so that a stopped study has all variants.

    Args:
        configs: variants of one training, with the first seed.
        features: checkpoint whose features and answers images are measured by.

    Raises:
        InputError: data, checkpoint, options or the folder are not usable.
    """
    first = configs[0]
    data, held_out = (_images(first.data, split, data_dir) for split in ("train", "test"))
    if min(len(data), len(held_out)) < 2:
        raise InputError(f"--data {first.data}: one image has no covariance; give 2 or more")
    network = measuring(features, held_out, device)
    _check_same(folder, network)
    runs = list(
        dict.fromkeys(replace(config, seed=config.seed + i) for i in range(seeds) for config in configs)
    )
    real = moments(_answers(network, data)[0])
    beside, test = _answers(network, held_out)
    options = {name: value for name, value in asdict(first).items() if name not in ("n", "seed", "data")}
    facts: dict[str, Any] = {
        "data": first.data,
        "images": len(data),
        "features": network.name,
        "test_distance": frechet_distance(moments(beside), real),
        "test_score": inception_score(test),
        "seeds": seeds,
        "iterations": first.iterations,
        "config": options,
    }
    write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    remove_unfinished(folder)  # of a command that was killed

    def measured(images: Tensor) -> tuple[float, float]:
        features, probabilities = answers(network, images.split(AT_ONCE))
        return frechet_distance(moments(features), real), inception_score(probabilities)

    for number, config in enumerate(runs, 1):
        bar = Progress(f"{config.name} ({number} of {len(runs)})", "iteration", quiet=quiet)
        train(config, data, measured, folder / config.name, device=device, bar=bar)
        write_gan_report(folder)
    return folder


def load_celeba(root: Path, split: str, size: int) -> Dataset:
    """CelebA's aligned faces as published: ``root/img_align_celeba/IMAGE`` in one folder, and
    ``root/list_eval_partition.txt``, whose lines ``IMAGE NUMBER`` name the split. The faces have no classes.

    Args:
        split: ``train`` (number 0) or ``test`` (2).
        size: the shorter side is scaled to this, and a square is cut from the middle.
    Raises:
        InputError: a file is missing, or a line names no split or no image.
    """
    partition, folder = root / "list_eval_partition.txt", root / "img_align_celeba"
    if not partition.is_file():
        raise InputError(f"{partition}: no such file; put it and the folder {folder.name} of CelebA there")
    wanted = {"train": "0", "test": "2"}[split]
    lines = listed_images(partition, folder, ("0", "1", "2"), None, "0, 1 or 2")
    paths = [path for path, number in lines if number == wanted]
    if not paths:
        raise InputError(f"{partition}: names no {split} images (number {wanted})")
    return Dataset(
        name=f"celeba:{root}@{size}",
        images=ImageFiles(paths, Preprocessing(size, size)),
        scale=255.0,
        labels=np.zeros(len(paths), np.int64),
        classes=1,
        class_names=(),
        source=f"CelebA, {len(paths)} {split} images, scaled and cropped to {size} x {size}",
    )


def _images(spec: str, split: str, data_dir: Path | None) -> Dataset:
    """The images that ``--data`` names, as for ``train``, or ``celeba:DIR@SIZE``, which has no classes."""
    kind, _, place = spec.partition(":")
    if kind == "celeba":
        folder, size = sized(place)
        return load_celeba(Path(folder), split, size or CELEBA_SIZE)
    return load_data(spec, data_dir=data_dir, split=split)


def _answers(network: Network, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    return answers(network, (data.batch(rows)[0] for rows in torch.arange(len(data)).split(AT_ONCE)))


def _check_same(folder: Path, network: Classifier | Inception) -> None:
    """Figures of two networks never share a folder.

    Raises:
        InputError: what the folder holds was measured by another one.
    """
    try:
        before = json.loads((folder / FACTS).read_text())["features"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if before != network.name:
        raise InputError(f"{folder} was measured by {before}, not by {network.name}; give another --out")
