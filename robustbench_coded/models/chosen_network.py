"""One network of a file, ready for pixels: chosen among several by labelled images, behind the
normalisation given or recognised.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from robustbench_coded.errors import InputError
from robustbench_coded.models.checkpoint import Checkpoint
from robustbench_coded.models.decision import STANDARD_ERRORS, Stated
from robustbench_coded.models.labelled_accuracy import Labelled, floor, labelled
from robustbench_coded.models.normalisation import KNOWN, Normalisation, NormalisationChoice
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.recognition import Recognition, recognise_network

# Where the file states no accuracy, another network has to answer so many more images rightly: a robust one
# of the best epoch and one of the last differ by less.
MANY_MORE = 0.05

GLANCED = 64  # images by which a network is seen to answer nothing, whatever its normalisation


@dataclass(frozen=True)
class Chosen:
    """The network of a file that is evaluated.

    Attributes:
        checkpoint: as loaded, of ``FILE#ENTRY`` where it is not the first one.
        recognition: of it.
        sentence: which one it is, and how to take another; empty where the file has one network.
    """

    checkpoint: Checkpoint
    recognition: Recognition
    sentence: str = ""


def chosen_network(
    first: Checkpoint,
    images: Tensor,
    labels: Tensor | None,
    recognise: Callable[[Checkpoint], Recognition],
    load: Callable[[str, str], Checkpoint],
) -> Chosen:
    """The network of the file of ``first`` that is evaluated.

    Args:
        first: the one that is taken without images.
        images: [n, C, H, W] in [0, 1]; those that ``recognise`` looks at.
        labels: [n] int64; None where there are none: then the first one is taken.
        recognise: what a network is.
        load: from a path and a variant, or an empty text, to a checkpoint with the options of the first one.
    """
    if len(first.layout.networks) < 2 or labels is None:
        return Chosen(first, recognise(first))
    own, *others = first.layout.networks
    networks = {own: first, **dict(_loaded(first, others, load))}
    name = _answering(networks, images[:GLANCED], labels[:GLANCED])
    found = recognise(networks[name])
    best = found.chosen.labelled
    assert best is not None  # there are labels
    count, asked_first = best.examples, name
    shares = {name: best.accuracy}
    for other in networks:
        if other == asked_first:
            continue
        variant = load(f"{first.path}#{other}", found.arch)
        seen = _labelled(variant, found.chosen.candidate.normalisation, images[:count], labels[:count])
        shares[other] = seen.accuracy
        if _preferred(seen, best, found.stated):
            name, best = other, seen
    if name != asked_first:
        found = recognise(networks[name])
    elif found.refusal:  # then it says little about the others how they answer when assembled alike
        for other in (one for one in networks if one != asked_first):
            if not (again := recognise(networks[other])).refusal:
                name, found = other, again
                break
    said = ", ".join(f"{one} {share:.1%}" for one, share in shares.items())
    another = next((one for one in networks if one != name), None)
    sentence = f"of the networks in the file ({said} of images right) {name} is evaluated"
    return Chosen(networks[name], found, f"{sentence}; FILE#{another} evaluates another" if another else "")


def _loaded(
    first: Checkpoint, others: list[str], load: Callable[[str, str], Checkpoint]
) -> Iterator[tuple[str, Checkpoint]]:
    for name in others:
        try:
            other = load(f"{first.path}#{name}", "")
        except InputError:  # no such network after all
            continue
        if (other.arch, other.classes) == (first.arch, first.classes):
            yield name, other


def _answering(networks: dict[str, Checkpoint], images: Tensor, labels: Tensor) -> str:
    """The first network, or where it seems to answer by chance and another does not, the best of them."""

    def right(one: Checkpoint) -> float:
        known = list(KNOWN[one.channels].values()) if one.normalisation is None else [one.normalisation]
        return max(_labelled(one, normalisation, images, labels).accuracy for normalisation in known)

    own, *_ = networks
    lowest = floor(networks[own].classes)
    if right(networks[own]) > 2 * lowest:
        return own
    shares = {name: right(network) for name, network in networks.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > 2 * max(lowest, shares[own]) else own


def _labelled(one: Checkpoint, normalisation: Normalisation, images: Tensor, labels: Tensor) -> Labelled:
    model = PixelModel(one.network, normalisation.mean, normalisation.std, classes=one.classes, arch=one.arch)
    return labelled(model, images.cpu(), labels)


def _preferred(other: Labelled, one: Labelled, stated: Stated) -> bool:
    """Whether another network is rather the one that the file is about."""
    apart = one.less_accurate_than(other)
    if abs(apart) < STANDARD_ERRORS:
        return False
    both = min(one.examples, other.examples)
    if stated.accuracy is not None:
        says = stated.accuracy[1]
        return abs(other.accuracy_of(both) - says) < abs(one.accuracy_of(both) - says)
    return other.accuracy_of(both) - one.accuracy_of(both) >= MANY_MORE


def with_normalisation(
    checkpoint: Checkpoint, images: Tensor, labels: Tensor
) -> tuple[PixelModel, NormalisationChoice]:
    """The checkpoint as a Model from pixels to logits, and the normalisation it has inside.

    Args:
        checkpoint: as loaded; its network is shared with the Model.
        images: (n, channels, height, width) in [0, 1]; read only where the normalisation has to be guessed,
            and then the variant of the architecture is, too.
        labels: (n,) int64.
    Raises:
        InputError: the images or labels are not of the checkpoint's channels or classes, or they leave open
            which normalisation is right.
    """
    if checkpoint.normalisation is not None:
        known = checkpoint.normalisation
        choice = NormalisationChoice(known.name, known.mean, known.std, checkpoint.normalisation_source)
    else:
        _check_examples(checkpoint, images, labels)
        found = recognise_network(checkpoint, images, labels)
        if found.refusal:
            raise InputError(f"{checkpoint.path}: {found.refusal}")
        return found.model, found.choice
    model = PixelModel(
        checkpoint.network, choice.mean, choice.std, classes=checkpoint.classes, arch=checkpoint.arch
    )
    return model, choice


def _check_examples(checkpoint: Checkpoint, images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or len(images) == 0 or images.shape[1] != checkpoint.channels:
        raise InputError(
            f"{checkpoint.path}: guessing its normalisation takes images of {checkpoint.channels} channels, "
            f"got {tuple(images.shape)}; pass --normalize"
        )
    if labels.min() < 0 or labels.max() >= checkpoint.classes:
        raise InputError(
            f"{checkpoint.path}: it answers {checkpoint.classes} classes, the labels go from "
            f"{int(labels.min())} to {int(labels.max())}; choose the data it was trained on with --data"
        )
