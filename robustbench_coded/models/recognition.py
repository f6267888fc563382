"""Which network a file's weights belong to, and behind which normalisation it was trained.

Names and shapes of the weights decide the architecture. The user's statement, the file, the definition or
what batch-norms remember decide the normalisation. What is stated is evaluated as it is stated, with a
warning where evidence contradicts it. Where something is left open, batch-norms and labelled images have to
confirm the choice; else the user is asked.

A network that was trained adversarially often answers more images rightly behind a wrong normalisation, and
is robust behind the right one alone. So labels order the lines of a question, and choose none.

A batch-norm stores the mean and variance that each of its channels had in training. The right network,
behind the right normalisation, reproduces these on images of the same data. A batch-norm sees only what comes
before it: the first one tells most normalisations apart, and whole networks tell the others and other forms.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from attacks.accelerator import random_states_kept
from attacks.gradients import raise_machine_fault
from robustbench_coded.data.augment import KINDS
from robustbench_coded.errors import InputError
from robustbench_coded.models.archive import stored_normalisation
from robustbench_coded.models.detect import construct
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import KNOWN, Normalisation, Source
from robustbench_coded.models.pixel_model import PixelModel, multiplications
from robustbench_coded.models.registry import find
from robustbench_coded.models.state_dict import EVALUATES_ANOTHER
from robustbench_coded.threads import few_threads, subnormals_flushed

IMAGES = 2048  # that are looked at, at most
ANSWERED_AT_ONCE = 32  # on a CPU wide networks answer so many a third faster than 128

# Multiplications that a comparison may cost: a core makes about 20e9 of these a second.
AFFORDED = 30e9
FEWEST = 16  # images on which several forms are compared; where even these cost more, they are not

# Scores of batch-norms (docs/your-checkpoint.md has those of right and wrong networks). The same network is
# no farther than SAME from what its batch-norms remember; forms that are not so many times farther than the
# nearest are not told apart; what is stated is contradicted by more.
SAME, TIE, CONTRADICTED = 0.003, 1.5, 3.0
UNFAMILIAR = 0.015  # so far, as a median over the layers, they are not those of a stated network
CLEARLY_WORSE = 4.0  # times as far as the nearest: no longer compared
CHANCE = 0.3  # over the number of images: so far three times the right network is, because they are few
# Labels contradict where another normalisation is more accurate by more than an adversarially trained network
# gains behind a wrong one.
FAR_BELOW = 0.05
LINES = 3  # of a question
BY_METADATA = "its metadata"  # decides an architecture
OTHERWISE = "if it is another network, pass --arch file.py:build"


@dataclass(frozen=True)
class Form:
    """A way to assemble the weights.

    Attributes:
        arch: as ``--arch`` takes it.
        normalisation: of pixels in [0, 1].
    """

    arch: str
    normalisation: Normalisation

    def __str__(self) -> str:
        taken = self.normalisation
        if taken.name == "none":
            return f"{self.arch} without normalisation"
        return f"{self.arch} with normalisation {taken if taken.name == 'custom' else taken.name}"

    @property
    def flags(self) -> str:
        """The options that state it on the command line."""
        name = self.normalisation.name
        return f"--arch '{self.arch}' --normalize {str(self.normalisation) if name == 'custom' else name}"


def networks_of(checkpoint: Checkpoint) -> list[str]:
    """The architectures that have the checkpoint's weights, as ``--arch`` takes them, the usual one first."""
    if checkpoint.arch_source != "recognised":
        return [checkpoint.arch]
    beside = find(checkpoint.arch)[0].beside
    return [checkpoint.arch, *([f"{checkpoint.arch}{beside}"] if beside else [])]


def model_of(checkpoint: Checkpoint, form: Form, device: torch.device) -> PixelModel:
    """The form from pixels to logits, with the checkpoint's weights, which all forms share."""
    network: nn.Module = checkpoint.network.to(device)
    if form.arch != checkpoint.arch:
        weights = network.state_dict()
        network = construct(form.arch, checkpoint.classes, checkpoint.channels)
        network.load_state_dict(weights, assign=True)
        network.eval().requires_grad_(False)
    taken = form.normalisation
    model = PixelModel(network, taken.mean, taken.std, classes=checkpoint.classes, arch=form.arch)
    return model.to(device)


@dataclass(frozen=True)
class BatchNormEvidence:
    """How far a form's batch-norms are from what they remember on one kind of training images.

    Attributes:
        layers: names of the batch-norms, in the order in which they are reached.
        divergences: of each layer, the mean over its channels of the symmetric divergence between Gaussians
            of the stored and the measured mean and variance, in nats; 0 where they are equal.
        images: how many it was measured on.
    """

    form: Form
    kind: str
    layers: tuple[str, ...]
    divergences: tuple[float, ...]
    images: int

    @property
    def median(self) -> float:
        """Of the layers' divergences."""
        return median(self.divergences)

    @property
    def score(self) -> float:
        """One number to compare forms by: the square of the mean root, so that every layer counts.

        A part that only the last layers see does not move the median.
        """
        return (sum(divergence**0.5 for divergence in self.divergences) / len(self.divergences)) ** 2

    def departs_at(self, limit: float) -> str:
        """The first layer beyond ``limit``; the furthest where none is."""
        beyond = [name for name, far in zip(self.layers, self.divergences, strict=True) if far > limit]
        return beyond[0] if beyond else self.layers[self.divergences.index(max(self.divergences))]


def trained_batch_norms(network: nn.Module) -> dict[str, BatchNorm]:
    """The batch-norms that remember something.

    A fresh layer does not, nor one folded into the convolution before it: means 0, variances all the same.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, BatchNorm)
        and module.running_mean is not None
        and module.running_var is not None
        and not (
            bool((module.running_mean == 0).all())
            and bool(((module.running_var - 1).abs() < 1e-3).all())
            and bool((module.running_var == module.running_var[0]).all())
        )
    }


class _Enough(Exception):
    """What follows in a forward pass is of no use."""


@torch.no_grad()
def divergences(
    model: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor, layers: int | None = None
) -> dict[str, float]:
    """Sends images through a model and compares what its batch-norms see with what they remember.

    Args:
        model: pixels to logits, in eval mode.
        network: the part of it whose batch-norms count, where they remember something.
        images: [n, C, H, W] in [0, 1], n at least 1.
        layers: stop after so many batch-norms; None for all.
    """
    norms = trained_batch_norms(network)
    names = {module: name for name, module in norms.items()}
    moments: dict[str, list[Tensor]] = {}
    batch: dict[str, list[Tensor]] = {}

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        batch.setdefault(names[cast(BatchNorm, module)], []).append(_moments_of(inputs[0]))
        if len(batch) == layers:
            raise _Enough

    with ExitStack() as hooks:
        for module in names:
            hooks.enter_context(module.register_forward_hook(see))
        for piece in images.split(ANSWERED_AT_ONCE):
            batch.clear()
            with suppress(_Enough):
                model(piece)
            for name, uses in batch.items():  # one of them, unless a layer is used several times
                moments.setdefault(name, []).append(torch.stack(uses).mean(0))
    return {name: _divergence(norms[name], torch.cat(pieces).mean(0)) for name, pieces in moments.items()}


def _moments_of(x: Tensor) -> Tensor:
    """[images, 2, channels] first and second moments of activations [images, channels, ...]."""
    x = x.float() if x.ndim > 2 else x[..., None].float()
    pixels = tuple(range(2, x.ndim))
    return torch.stack([x.mean(pixels), x.square().mean(pixels)], 1).cpu().double()


def _divergence(norm: BatchNorm, moments: Tensor) -> float:
    """The mean over the channels of the symmetric divergence between Gaussians of the stored and of the
    measured mean and variance.

    Args:
        moments: [2, channels] of the first and second order.
    """
    mean, second = moments
    # With what the layer divides by; it also keeps channels without any variance from deciding.
    variance = (second - mean**2).clamp(min=0) + norm.eps
    stored_mean = cast(Tensor, norm.running_mean).cpu().double()
    stored_variance = cast(Tensor, norm.running_var).cpu().double() + norm.eps
    ratio = stored_variance / variance
    apart = (stored_mean - mean) ** 2 * (1 / variance + 1 / stored_variance)
    per_channel = (ratio + 1 / ratio - 2 + apart) / 2
    return float(per_channel.nan_to_num(nan=1e9, posinf=1e9).clamp(max=1e9).mean())


def closest(looks: Sequence[BatchNormEvidence]) -> list[BatchNormEvidence]:
    """The nearest, nearest first, without what is clearly worse than the first, by chance or not."""
    ordered = sorted(looks, key=lambda look: look.score)
    best = ordered[0]
    limit = max(CLEARLY_WORSE * best.score, best.score + CHANCE / best.images)
    return [look for look in ordered if look.score <= limit]


@dataclass(frozen=True)
class Labelled:
    """A form on labelled images.

    Attributes:
        correct: [n] bool, which of the first n images it answers correctly.
    """

    form: Form
    correct: Tensor

    @property
    def accuracy(self) -> float:
        """Fraction in [0, 1]."""
        return float(self.correct.double().mean())

    @property
    def error(self) -> float:
        """Three standard errors of the accuracy, and half an image."""
        return 3 * (self.accuracy * (1 - self.accuracy) / len(self.correct)) ** 0.5 + 0.5 / len(self.correct)

    def beaten_by(self, other: "Labelled") -> bool:
        """True if the other is better by three standard errors, on the images that both answered."""
        own, others = (side.correct[: min(len(self.correct), len(other.correct))] for side in (self, other))
        gained, lost = int((others & ~own).sum()), int((own & ~others).sum())
        return gained - lost > 3 * (gained + lost) ** 0.5

    def __str__(self) -> str:
        return f"{self.accuracy:.1%} of {len(self.correct)}"


@dataclass
class Trials:
    """Forms of one checkpoint on the same images.

    Attributes:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1].
        labels: [n] int64; None where there are none.
        device: where forms answer.
    """

    checkpoint: Checkpoint
    images: Tensor
    labels: Tensor | None
    device: torch.device

    @cached_property
    def cost(self) -> int:
        """Multiplications for one image."""
        image = self.images[:1].contiguous().to(self.device)
        return multiplications(self.checkpoint.network.to(self.device), image)

    def affordable(self, most: int, answers: int = 1) -> int:
        """Images, of at most so many, that can be answered so many times."""
        return min(most, int(AFFORDED / (max(answers, 1) * self.cost)))

    def model(self, form: Form) -> PixelModel:
        """The form; networks that sample draw alike for every form."""
        torch.manual_seed(0)
        return model_of(self.checkpoint, form, self.device)

    @torch.no_grad()
    def labelled(self, forms: Sequence[Form], fewest: int = FEWEST) -> list[Labelled]:
        """The forms that answer, on as many of the first images as all can afford, the most accurate first;
        nothing where there are no labels, or where ``fewest`` cost too much.
        """
        most = self.affordable(IMAGES, len(forms))
        if self.labels is None or most < fewest:
            return []
        rows = []
        for form in forms:
            model = self.model(form)
            pieces = self.images[:most].split(ANSWERED_AT_ONCE)
            try:
                answers = [model(x.to(self.device)).nan_to_num(nan=0.0).argmax(1).cpu() for x in pieces]
            except Exception as error:  # a network may take no pixels but its own
                raise_machine_fault(error)
                continue
            rows.append(Labelled(form, torch.cat(answers) == self.labels[:most]))
        return sorted(rows, key=lambda row: -row.accuracy)

    @torch.no_grad()
    def draws(self, form: Form) -> bool:
        """True if its answers are random, beyond rounding. Noise that it adds is small beside pixels to 255:
        behind such a normalisation it is more accurate, and another network.
        """
        model, few = self.model(form), self.images[:8].to(self.device)
        return not torch.allclose(model(few), model(few), rtol=1e-3, atol=1e-5, equal_nan=True)

    def near(self, forms: Sequence[Form]) -> list[BatchNormEvidence]:
        """The forms that are not clearly worse than another, each on the kind of training images that fits
        it best, nearest first: by the first batch-norm, by all on few images, and the last four on more.
        """
        looks, ends = list[BatchNormEvidence](), [(form, kind) for form in forms for kind in KINDS]
        few, many = max(FEWEST, self.affordable(64, 8)), max(128, self.affordable(1024))
        for count, layers, most in ((16, 1, None), (64, 1, 16), (few, None, 4), (many, None, None)):
            looks = sorted((self._look(*end, count, layers) for end in ends), key=lambda look: look.score)
            if layers is None:  # of each form, the kind that fits best
                looks = [look for i, look in enumerate(looks) if look.form not in [o.form for o in looks[:i]]]
            ends = [(look.form, look.kind) for look in closest(looks)][:most]
        return looks

    def _look(self, form: Form, kind: str, count: int, layers: int | None) -> BatchNormEvidence:
        model = self.model(form)
        chosen = torch.arange(min(count, len(self.images))) * len(self.images) // min(count, len(self.images))
        images = KINDS[kind](self.images[chosen], torch.Generator().manual_seed(0)).to(self.device)
        try:
            seen = divergences(model, model.network, images, layers)
        except Exception as error:  # a network may take no pixels but its own
            raise_machine_fault(error)
            seen = {"its input": torch.inf}
        return BatchNormEvidence(form, kind, tuple(seen), tuple(seen.values()), len(images))


@dataclass(frozen=True)
class Recognition:
    """The decision on one checkpoint, and its evidence.

    Attributes:
        form: what is evaluated, or what comes closest where there is a refusal.
        by: what decided the architecture, and what its normalisation; the second is ``given`` by the user,
            ``stored`` in the file, or ``recognised`` by batch-norms.
        labelled: the form on labelled images; None where there are no labels.
        batch_norms: its batch-norms; None where none remembers anything.
        warnings: what contradicts it, a clause each.
        refusal: why it is not evaluated, in one line; empty where it is.
        question: lines to choose from, with the options to copy; empty if there is no question.
    """

    form: Form
    by: tuple[str, Source]
    labelled: Labelled | None
    batch_norms: BatchNormEvidence | None
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    question: tuple[str, ...] = ()

    def refused(self, checkpoint: Checkpoint) -> InputError:
        """The refusal as an error, with the lines of its question."""
        return InputError(f"{checkpoint.path}: {self.refusal}", self.question)

    @property
    def sentence(self) -> str:
        """The recognised network and the evidence, in one line."""
        reading = f"taken as {self.form} (architecture by {self.by[0]}, normalisation {self.by[1]})"
        evidence = []
        if (seen := self.batch_norms) is not None:
            evidence.append(
                f"{len(seen.layers)} batch-norms are {seen.median:.2g} (median) from their stored statistics "
                f"on {seen.images} images ({seen.kind})"
            )
        if self.labelled is not None:
            evidence.append(f"{self.labelled} images right")
        return f"{reading}: {', '.join(evidence) or 'there are no labelled images'}"

    def as_data(self) -> dict[str, Any]:
        """The decision as stored in run.json."""
        decided = {"by": list(self.by), "contradictions": list(self.warnings), "refusal": self.refusal}
        return {"sentence": self.sentence, **decided}


@subnormals_flushed()
def recognise_network(
    checkpoint: Checkpoint, images: Tensor, labels: Tensor | None, *, device: torch.device | None = None
) -> Recognition:
    """Decides what a checkpoint's network is.

    Args:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1], n at least 1, of the distribution that it was trained on; of these at
            most IMAGES are looked at.
        labels: [n] int64 in [0, classes); None where there are none.
        device: where networks answer.
    """
    images = images[:IMAGES]
    labels = None if labels is None else labels[: len(images)].cpu()
    # Networks that sample take the same draws each time, without touching the global generator.
    with random_states_kept():
        torch.manual_seed(0)
        trials = Trials(checkpoint, images, labels, torch.device("cpu") if device is None else device)
        with few_threads(trials.cost):
            return _decided(trials)


def _decided(trials: Trials) -> Recognition:
    checkpoint, given = trials.checkpoint, trials.checkpoint.normalisation
    stored = stored_normalisation(checkpoint.metadata, checkpoint.channels)
    known = list(dict.fromkeys(filter(None, (given, stored, *KNOWN[checkpoint.channels].values()))))
    architectures = networks_of(checkpoint)
    forms = [Form(arch, one) for arch in architectures for one in ([given] if given else known)]
    others = [Form(architectures[0], one) for one in known if one != given]
    origin = {"given": "--arch", "stored": BY_METADATA, "recognised": "names and shapes"}
    unknown = checkpoint.normalisation_source == "unknown"
    source: Source = "recognised" if unknown else checkpoint.normalisation_source
    by = origin[checkpoint.arch_source], source
    confirmed = checkpoint.metadata.get("accuracy")
    if by == (BY_METADATA, "stored") and isinstance(confirmed, float):
        for measured in trials.labelled(forms, fewest=0)[:1]:
            if measured.accuracy + measured.error >= confirmed and not _at_chance(measured, checkpoint):
                return Recognition(forms[0], by, measured, None)
    remembers = bool(trained_batch_norms(checkpoint.network))
    fits, elsewhere = (trials.near(some) if remembers and some else [] for some in (forms, others))
    chosen = fits[0].form if fits else forms[0]
    labelled = next(iter(trials.labelled([chosen], fewest=0)), None)
    better = [] if labelled is None or trials.draws(chosen) else _better(trials, labelled, others)
    stated = len(forms) == 1 and not _unknown_parts(checkpoint)
    doubts = list(_doubts(trials, fits, elsewhere if given else [], stated=stated))
    if labelled and not _at_chance(labelled, checkpoint):
        doubts += _of_labels(labelled, better)
    found = Recognition(chosen, by, labelled, fits[0] if fits else None)
    if doubts and not stated:
        return _asked(trials, found, doubts[0], forms, fits)
    refusal = ""
    if labelled and _at_chance(labelled, checkpoint):
        refusal = _by_chance(checkpoint, labelled, better)
    return replace(found, warnings=tuple(doubts), refusal=refusal)


def _at_chance(row: Labelled, checkpoint: Checkpoint) -> bool:
    """True if its accuracy is within three standard errors of that of a constant prediction."""
    return row.accuracy - row.error <= 1 / checkpoint.classes


def _unknown_parts(checkpoint: Checkpoint) -> list[str]:
    """The parts that neither the published definition with its weights nor its file states, in words.

    Layers that an ``nn.Sequential`` numbers may be written by anybody, and the pickle that holds one names
    its activation.
    """
    parts = [] if checkpoint.normalisation else ["normalisation"]
    by_number = checkpoint.arch_source == "recognised" and checkpoint.arch.startswith("wong-")
    return ["activations", *parts] if by_number and checkpoint.activation not in ("", "ReLU") else parts


def _doubts(
    trials: Trials, fits: Sequence[BatchNormEvidence], others: Sequence[BatchNormEvidence], *, stated: bool
) -> Iterator[str]:
    """Why a form is not settled, or what batch-norms say against it, a clause each.

    Args:
        fits: of the forms that agree with what is stated, the nearest first.
        others: of all others.
        stated: whether nothing is left to choose.
    """
    checkpoint = trials.checkpoint
    if not fits:
        if not stated:
            hint = f" (its pickle holds torch.nn.{checkpoint.activation})" if checkpoint.activation else ""
            parts = " and ".join(_unknown_parts(checkpoint)) or "shortcuts"
            yield f"neither its weights nor its file say its {parts}{hint}"
        return
    best = fits[0]
    unlike = best.median > UNFAMILIAR if stated else best.score > SAME
    if others and best.score > CONTRADICTED * others[0].score:
        yield (
            f"its batch-norms contradict {best.form}, which is stated: activations differ from the "
            f"statistics they store by {best.median:.2g}, as {others[0].form} by {others[0].median:.2g}; try "
            f"{others[0].form.flags}"
        )
    elif unlike and not getattr(checkpoint.network, "samples", False):
        yield (
            f"its batch-norms do not fit these images: as {best.form} activations differ from the stored "
            f"statistics by {best.median:.2g} (median), first at {best.departs_at(UNFAMILIAR)}; a part "
            f"before it, or the images, differ from training; {OTHERWISE}"
        )
    elif not stated and len(fits) > 1 and fits[1].score <= TIE * best.score:
        yield "its batch-norms fit several of the networks that it may be"


def _better(trials: Trials, own: Labelled, others: Sequence[Form]) -> list[Labelled]:
    """The same network behind normalisations with which it is more accurate by three standard errors, the
    most accurate first; empty where that takes long."""
    beside = [replace(own.form, normalisation=other.normalisation) for other in others]
    return [
        row for row in trials.labelled([form for form in beside if form != own.form]) if own.beaten_by(row)
    ]


def _of_labels(own: Labelled, better: Sequence[Labelled]) -> list[str]:
    """Why labelled images contradict a form, a clause; empty where they do not."""
    # Behind a wrong normalisation an adversarially trained network gains a little.
    return [
        f"its labelled images contradict {own.form}: {best.form} answers {best} correctly instead of "
        f"{own.accuracy:.1%}; try {best.form.flags}"
        for best in better[:1]
        if best.accuracy > own.accuracy + FAR_BELOW
    ]


def _asked(
    trials: Trials, found: Recognition, why: str, forms: Sequence[Form], fits: Sequence[BatchNormEvidence]
) -> Recognition:
    """The question: why, and at most three lines to choose from, the nearest by batch-norms first; without
    these the most accurate ones.

    Args:
        forms: that agree with what is stated.
        fits: of the first of them.
    """
    rows = {row.form: row for row in trials.labelled(forms)}
    ranked = forms if trials.draws(forms[0]) else rows
    shown = list(dict.fromkeys([*(fit.form for fit in fits), *ranked, *forms]))[:LINES]
    distances = {fit.form: f", {fit.score:.2g} from its batch-norms' statistics" for fit in fits}
    if rows and all(_at_chance(row, trials.checkpoint) for row in rows.values()):
        why += "; even the best of these lines answers as by chance, so the images may not be its own"
    heading = (
        f"{why.removesuffix(f'; {OTHERWISE}')}. State the network as it was trained, as in one of these "
        "lines, or pass --arch file.py:build if it is another one. An adversarially trained network may be "
        "more accurate behind a wrong normalisation, so labels do not choose"
    )
    lines = (
        f"  {f.flags}  ({rows[f]} right{distances.get(f, '')})" if f in rows else f"  {f.flags}"
        for f in shown
    )
    return replace(found, form=shown[0], labelled=rows.get(shown[0]), refusal=heading, question=tuple(lines))


def _by_chance(checkpoint: Checkpoint, labelled: Labelled, better: Sequence[Labelled]) -> str:
    """Why a network is refused that answers as by chance, and what to try."""
    mend = "try another --arch, --normalize or --data"
    for best in [row for row in better if not _at_chance(row, checkpoint)][:1]:
        mend = f"behind another normalisation {best.accuracy:.1%} are: {best.form.flags}"
    notes = [note.rpartition("; ")[2] for note in checkpoint.notes if EVALUATES_ANOTHER in note]
    message = (
        f"{labelled.accuracy:.1%} of {len(labelled.correct)} labelled images are right, and chance is "
        f"{1 / checkpoint.classes:.1%}: it is not trained, its labels are others, or a part without weights "
        "is wrong"
    )
    return "; ".join([message, *notes, mend])
