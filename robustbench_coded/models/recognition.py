"""Recognition of a checkpoint's network: its architecture among those with its weights, its normalisation.

Names and shapes of the weights decide the architecture where a published definition has them. The user's
statement, the file's metadata or what batch-norms remember decide the normalisation. Batch-norms and labelled
images have to confirm all of it; else the user is asked. What is stated is evaluated as it is stated, with
warnings of what speaks against it.

A network that was trained adversarially often answers more images rightly behind a wrong normalisation, and
is robust behind the right one alone. So labels order candidates for a person, and choose none.

A batch-norm stores the mean and variance that each of its channels had in training. The right network,
behind the right normalisation, reproduces these on images of the same data. A batch-norm sees only what comes
before it: the first one tells most normalisations apart, and whole networks tell the others and other forms.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from attacks.accelerator import random_states_kept
from robustbench_coded.data.augment import KINDS
from robustbench_coded.errors import InputError
from robustbench_coded.models.archive import stored_normalisation
from robustbench_coded.models.detect import construct
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import Normalisation, Source, normalisations_of
from robustbench_coded.models.pixel_model import PixelModel, multiplications
from robustbench_coded.models.registry import find
from robustbench_coded.models.state_dict import EVALUATES_ANOTHER
from robustbench_coded.threads import few_threads, subnormals_flushed

ANSWERED_AT_ONCE = 32  # on a CPU wide networks answer so many a third faster than 128

# Fewest and most labelled images of a candidate, and the multiplications that all of them together may cost:
# a core makes about 20e9 of these a second.
LABELLED_IMAGES, LABELLED_MULTIPLICATIONS = (64, 2048), 30e9


def unknown_parts(checkpoint: Checkpoint) -> list[str]:
    """The parts that the published definition with its weights leaves open, in words.

    Layers that an ``nn.Sequential`` numbers may be written by anybody, and the pickle that holds one names
    its activation.
    """
    of_wong = checkpoint.arch.startswith("wong-")
    return ["activations"] if of_wong and checkpoint.activation not in ("", "ReLU") else []


def networks_of(checkpoint: Checkpoint) -> list[str]:
    """The architectures that have the checkpoint's weights, as ``--arch`` takes them, the likeliest first."""
    beside = "" if ":" in checkpoint.arch else find(checkpoint.arch)[0].beside
    return [checkpoint.arch, *([f"{checkpoint.arch}{beside}"] if beside else [])]


@dataclass(frozen=True)
class Candidate:
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


@dataclass(frozen=True)
class Labelled:
    """A candidate on labelled images.

    Attributes:
        rightly: [n] bool, which of the n images it answers rightly.
    """

    candidate: Candidate
    rightly: Tensor = field(compare=False, repr=False)

    @property
    def accuracy(self) -> float:
        return float(self.rightly.double().mean())

    @property
    def error(self) -> float:
        """Three standard errors of the accuracy, and half an image."""
        return 3 * (self.accuracy * (1 - self.accuracy) / len(self.rightly)) ** 0.5 + 0.5 / len(self.rightly)

    def beaten_by(self, other: "Labelled") -> bool:
        """True if the other is better by three standard errors, on the images that both answered."""
        own, others = (side.rightly[: min(len(self.rightly), len(other.rightly))] for side in (self, other))
        gained, lost = int((others & ~own).sum()), int((own & ~others).sum())
        return gained - lost > 3 * (gained + lost) ** 0.5

    def at_chance(self, classes: int) -> bool:
        """True if a network that says the same of every image may answer as many of these rightly."""
        return self.accuracy - self.error <= 1 / classes


def model_of(checkpoint: Checkpoint, candidate: Candidate, device: torch.device) -> PixelModel:
    """The candidate from pixels to logits, with the checkpoint's weights, which all candidates share."""
    network: nn.Module = checkpoint.network.to(device)
    if candidate.arch != checkpoint.arch:
        weights = network.state_dict()
        network = construct(candidate.arch, checkpoint.classes, checkpoint.channels)
        network.load_state_dict(weights, assign=True)
        network.eval().requires_grad_(False)
    taken = candidate.normalisation
    model = PixelModel(network, taken.mean, taken.std, classes=checkpoint.classes, arch=candidate.arch)
    return model.to(device)


@dataclass
class Trials:
    """Candidates of one checkpoint on the same images.

    Attributes:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1].
        labels: [n] int64; None where there are none.
        device: where candidates answer.
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

    def spread(self, count: int) -> Tensor:
        """At most so many of the images, evenly spread over all of them."""
        count = min(count, len(self.images))
        return self.images[torch.arange(count) * len(self.images) // count]

    def affordable(self, limits: tuple[int, int], total: float, candidates: int = 1) -> int:
        """Images that so many multiplications pay for, within these limits."""
        return max(limits[0], min(limits[1], int(total / (max(candidates, 1) * self.cost))))

    @torch.no_grad()
    def labelled(self, candidates: Sequence[Candidate], fewest: int = LABELLED_IMAGES[0]) -> list[Labelled]:
        """The candidates on the same first images, as many as all together can afford.

        Args:
            fewest: images that they answer whatever that takes.
        Returns:
            One for each that answers; nothing where there are no labels.
        """
        if self.labels is None:
            return []
        most = self.affordable((fewest, LABELLED_IMAGES[1]), LABELLED_MULTIPLICATIONS, len(candidates))
        labels, rows = self.labels[:most], []
        for candidate in candidates:
            torch.manual_seed(0)  # networks that sample draw alike for every candidate
            model = model_of(self.checkpoint, candidate, self.device)
            pieces = self.images[:most].split(ANSWERED_AT_ONCE)
            with suppress(*[Exception] * (len(candidates) > 1)):  # a network may take no pixels but its own
                answers = [model(x.to(self.device)).nan_to_num(nan=0.0).argmax(1).cpu() for x in pieces]
                rows.append(Labelled(candidate, torch.cat(answers) == labels))
        return rows

    def draws(self, candidate: Candidate) -> bool:
        """True if its answers are random, beyond rounding. Noise that it adds is small beside pixels to 255:
        behind such a normalisation it is more accurate, and another network.
        """
        model, few = model_of(self.checkpoint, candidate, self.device), self.images[:8].to(self.device)
        return not torch.allclose(model(few), model(few), rtol=1e-3, atol=1e-5, equal_nan=True)


@dataclass(frozen=True)
class BatchNormEvidence:
    """How far a candidate's batch-norms are from what they remember on one kind of training images.

    Attributes:
        layers: names of the batch-norms, in the order in which they are reached.
        divergences: of each layer, the mean over its channels of the symmetric divergence between Gaussians
            of the stored and the measured mean and variance, in nats; 0 where they are equal.
        images: how many it was measured on.
    """

    candidate: Candidate
    kind: str
    layers: tuple[str, ...]
    divergences: tuple[float, ...]
    images: int

    @property
    def median(self) -> float:
        return median(self.divergences)

    @property
    def score(self) -> float:
        """One number to compare candidates by: the square of the mean root, so that every layer counts.

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


by_score = attrgetter("score")

# Images for candidates by the first layer, for whole networks at first, and for those that stay close: the
# last two as many as so many multiplications pay for.
FIRST_IMAGES = (16, 64)
FEW_IMAGES, FEW_MULTIPLICATIONS = (16, 64), 4e9
FINAL_IMAGES, FINAL_MULTIPLICATIONS = (128, 1024), 20e9

TAKEN, RIVALS = 16, 4  # candidates behind which whole networks are compared, and those with more images
CLEARLY_WORSE = 4.0  # times as far as the nearest
CHANCE = 0.3  # over the number of images: so far three times the right network is, because they are few


def nearest(
    trials: Trials, candidates: Sequence[Candidate], kept: Collection[Candidate]
) -> list[BatchNormEvidence]:
    """The candidates that are not clearly worse than another, each on the kind of training images that fits
    it best, nearest first.

    Args:
        trials: of a checkpoint with trained batch-norms.
        candidates: those that come into question.
        kept: those that stay whatever comes closer.
    """

    def look(candidate: Candidate, kind: str, count: int, layers: int | None) -> BatchNormEvidence:
        torch.manual_seed(0)
        model = model_of(trials.checkpoint, candidate, trials.device)
        images = KINDS[kind](trials.spread(count), torch.Generator().manual_seed(0)).to(trials.device)
        seen = {"its input": torch.inf}
        with suppress(Exception):  # a network may take no pixels but its own
            seen = divergences(model, model.network, images, layers)
        return BatchNormEvidence(candidate, kind, tuple(seen), tuple(seen.values()), len(images))

    few = trials.affordable(FEW_IMAGES, FEW_MULTIPLICATIONS)
    most = trials.affordable(FINAL_IMAGES, FINAL_MULTIPLICATIONS)
    ends = [(candidate, kind) for candidate in candidates for kind in KINDS]
    stays = [end for end in ends if end[0] in kept]
    for count in FIRST_IMAGES:
        ends = [(one.candidate, one.kind) for one in closest([look(*end, count, 1) for end in ends])]
    ends = ends[:TAKEN]
    for count in (few, most):
        looks = sorted((look(*end, count, None) for end in dict.fromkeys([*ends, *stays])), key=by_score)
        best = sorted({one.candidate: one for one in reversed(looks)}.values(), key=by_score)
        ends = [(one.candidate, one.kind) for one in closest(best)][:RIVALS]
        stays = [(one.candidate, one.kind) for one in best if one.candidate in kept]
    return best


def closest(looks: Sequence[BatchNormEvidence]) -> list[BatchNormEvidence]:
    """The nearest, nearest first, without what is clearly worse than the first, by chance or not."""
    ordered = sorted(looks, key=by_score)
    best = ordered[0]
    limit = max(CLEARLY_WORSE * best.score, best.score + CHANCE / best.images)
    return [one for one in ordered if one.score <= limit]


IMAGES = 2048  # that are looked at, at most

# Scores of batch-norms (docs/your-checkpoint.md has those of right and wrong networks). The same network is
# no farther than SAME from what its batch-norms remember; candidates that are not so many times farther than
# the nearest are not told apart; what is stated is contradicted by more.
SAME, TIE, CONTRADICTED = 0.003, 1.5, 3.0
UNFAMILIAR = 0.015  # so far, as a median over the layers, they are not those of a stated network
# Labels contradict where another normalisation is more accurate by more than an adversarially trained network
# gains behind a wrong one.
FAR_BELOW = 0.05
# The fewest images on which many candidates answer, and multiplications for those beside what is decided on.
FEWEST, BESIDE_MULTIPLICATIONS = 16, 20e9

BY_METADATA = "its metadata"  # decide an architecture

LINES = 3  # of a question
NONE_OF_THESE = "  if none of these is your network, pass --arch file.py:build"


@dataclass(frozen=True)
class Recognition:
    """The decision on one checkpoint, and its evidence.

    Attributes:
        candidate: what is evaluated, or what comes closest where there is a refusal.
        by: what decided the architecture, and what its normalisation; the second is ``given`` by the user,
            ``stored`` in the file, ``recognised`` by batch-norms, or ``guessed`` with the option ``guess``.
            Where the first is ``--guess``, nobody knows whether the network is right.
        labelled: the candidate on labelled images; None where there are no labels.
        batch_norms: its batch-norms; None where none remembers anything.
        warnings: what speaks against it, a clause each.
        refusal: why it is not evaluated, in one line; empty where it is.
        question: lines to choose from, with the options to copy; empty if there is no question, or the answer
            was guessed.
    """

    candidate: Candidate
    by: tuple[str, Source]
    labelled: Labelled | None
    batch_norms: BatchNormEvidence | None
    warnings: tuple[str, ...]
    refusal: str
    question: tuple[str, ...] = ()

    def refused(self, checkpoint: Checkpoint) -> InputError:
        """The refusal as an error, with the lines of its question."""
        return InputError(f"{checkpoint.path}: {self.refusal}", self.question)

    @property
    def sentence(self) -> str:
        """The recognised network and the evidence, in one line."""
        reading = f"taken as {self.candidate} (architecture by {self.by[0]}, normalisation {self.by[1]})"
        evidence = []
        if self.batch_norms is not None:
            seen = self.batch_norms
            evidence.append(
                f"{len(seen.layers)} batch-norms are {seen.median:.2g} (median) from their stored statistics "
                f"on {seen.images} images ({seen.kind})"
            )
        if self.labelled is not None:
            evidence.append(f"{self.labelled.accuracy:.1%} of {len(self.labelled.rightly)} images right")
        return f"{reading}: {', '.join(evidence) or 'there are no labelled images'}"

    def as_data(self) -> dict[str, Any]:
        """The decision as stored in run.json."""
        decided = {"by": list(self.by), "contradictions": list(self.warnings), "refusal": self.refusal}
        return {"sentence": self.sentence, **decided}


@subnormals_flushed()
def recognise_network(
    checkpoint: Checkpoint,
    images: Tensor,
    labels: Tensor | None,
    *,
    device: torch.device | None = None,
    guess: bool = False,
) -> Recognition:
    """Decides what a checkpoint's network is.

    Args:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1], n at least 1, of the distribution that it was trained on; of these at
            most IMAGES are looked at.
        labels: [n] int64 in [0, classes); None where there are none.
        device: where networks answer.
        guess: take the first candidate of a question.
    """
    images = images[:IMAGES]
    labels = None if labels is None else labels[: len(images)].cpu()
    # Networks that sample take the same draws each time, without touching the global generator.
    with random_states_kept():
        torch.manual_seed(0)
        trials = Trials(checkpoint, images, labels, torch.device("cpu") if device is None else device)
        with few_threads(trials.cost):
            return _as_stated(trials) or _decided(trials, guess=guess)


def _as_stated(trials: Trials) -> Recognition | None:
    """What the file's metadata say, where it answers as many images rightly as they say; else None."""
    checkpoint, stated = trials.checkpoint, trials.checkpoint.metadata.get("accuracy")
    sources = checkpoint.arch_source, checkpoint.normalisation_source
    if sources != ("stored", "stored") or trials.labels is None or not isinstance(stated, float):
        return None
    assert checkpoint.normalisation is not None
    candidate = Candidate(checkpoint.arch, checkpoint.normalisation)
    (own,) = trials.labelled([candidate])
    if own.accuracy + own.error < stated or own.at_chance(checkpoint.classes):
        return None
    return Recognition(candidate, (BY_METADATA, "stored"), own, None, (), "")


def _decided(trials: Trials, *, guess: bool) -> Recognition:
    checkpoint, given = trials.checkpoint, trials.checkpoint.normalisation
    own = trials.images.mean((0, 2, 3)).tolist(), trials.images.std((0, 2, 3)).tolist()
    known = normalisations_of(*own, given, stored_normalisation(checkpoint.metadata, checkpoint.channels))
    architectures = [checkpoint.arch] if checkpoint.arch_source != "guessed" else networks_of(checkpoint)
    candidates = [Candidate(arch, one) for arch in architectures for one in ([given] if given else known)]
    others = [Candidate(architectures[0], one) for one in known if one != given]
    fits: list[BatchNormEvidence] = []
    if trained_batch_norms(checkpoint.network):
        fits = nearest(trials, list(dict.fromkeys([*candidates, *others])), candidates if given else ())
    allowed = [fit for fit in fits if fit.candidate in candidates]
    why, against = _unknown(checkpoint), list[str]()
    if allowed:
        candidates = list(dict.fromkeys([*(fit.candidate for fit in allowed), *candidates]))
        why, against = _by_batch_norms(trials, fits, allowed)
    chosen = candidates[0]
    labelled = next(iter(trials.labelled([chosen])), None)
    better = _better(trials, labelled, others)
    settled = given is not None and checkpoint.arch_source != "guessed"
    if labelled and not why and not labelled.at_chance(checkpoint.classes):
        contradiction = _contradicted(labelled, better)
        why = "" if settled else contradiction
        against += [contradiction] if settled and contradiction else []
    # A question helps nobody whose only line says what is stated, and the network of these weights.
    alone = len(candidates) == 1 and checkpoint.normalisation_source == "given"
    if why and not settled and alone and not unknown_parts(checkpoint):
        why, settled = f"{why}; if it is another network, pass --arch file.py:build", True
    if why and settled:
        against, why = [why, *against], ""
    refusal, question = "", tuple[str, ...]()
    if why:
        refusal, question, chosen, labelled = _question(trials, why, candidates, allowed)
    if labelled and labelled.at_chance(checkpoint.classes) and (not why or guess):
        refusal, question = _by_chance(checkpoint, labelled, better), ()
    origin = {"given": "--arch", "stored": BY_METADATA, "guessed": "names and shapes"}
    if question and guess:
        origin[checkpoint.arch_source], refusal, question = "--guess", "", ()
    recognised = given is None and allowed and not why
    return Recognition(
        chosen,
        (origin[checkpoint.arch_source], "recognised" if recognised else checkpoint.normalisation_source),
        labelled,
        next((fit for fit in allowed if fit.candidate == chosen), None),
        tuple(against),
        refusal,
        question,
    )


def _unknown(checkpoint: Checkpoint) -> str:
    """What nothing in the file says, a clause; empty where all is stated or published."""
    unknown = unknown_parts(checkpoint) if checkpoint.arch_source == "guessed" else []
    unknown += [] if checkpoint.normalisation else ["normalisation"]
    hint = f" (its pickle holds torch.nn.{checkpoint.activation})" if checkpoint.activation else ""
    return f"neither its weights nor its file say its {' and '.join(unknown)}{hint}" if unknown else ""


def _by_batch_norms(
    trials: Trials, fits: Sequence[BatchNormEvidence], allowed: Sequence[BatchNormEvidence]
) -> tuple[str, list[str]]:
    """Why batch-norms do not settle the nearest of ``allowed``, a clause, empty where they do; and warnings.

    Args:
        fits: of all candidates, the nearest first.
        allowed: of those that agree with what is stated.
    """
    checkpoint, best, nearer = trials.checkpoint, allowed[0], fits[0]
    against = []
    if nearer is not best and best.score > CONTRADICTED * nearer.score:
        against.append(
            f"its batch-norms contradict {best.candidate}, which is stated: activations differ from the "
            f"statistics they store by {best.median:.2g}, as {nearer.candidate} by "
            f"{nearer.median:.2g}; try {nearer.candidate.flags}"
        )
    settled = checkpoint.normalisation is not None and checkpoint.arch_source != "guessed"
    draws = getattr(checkpoint.network, "samples", False)
    # Images that fit a nearer one are familiar.
    if (best.median > UNFAMILIAR and not against if settled else best.score > SAME) and not draws:
        return (
            f"its batch-norms do not fit these images: as {best.candidate} activations differ from the "
            f"stored statistics by {best.median:.2g} (median), first at {best.departs_at(UNFAMILIAR)}; a "
            "part before it, or the images, differ from training"
        ), against
    if not settled and len(allowed) > 1 and allowed[1].score <= TIE * best.score:
        return "its batch-norms fit several of the networks that it may be", against
    return "", against


def _better(trials: Trials, own: Labelled | None, others: Sequence[Candidate]) -> list[Labelled]:
    """The same network behind normalisations with which it is more accurate by three standard errors, the
    best first; empty where that takes long."""
    if own is None or trials.draws(own.candidate):
        return []
    beside = [replace(own.candidate, normalisation=other.normalisation) for other in others]
    beside = [one for one in beside if one != own.candidate]
    if trials.affordable((0, FEWEST), BESIDE_MULTIPLICATIONS, len(beside)) < FEWEST:
        return []
    return [row for row in _ranked(trials.labelled(beside, FEWEST)) if own.beaten_by(row)]


def _contradicted(own: Labelled, better: Sequence[Labelled]) -> str:
    """Why labelled images do not confirm a candidate, a clause; empty where they do."""
    # Behind a wrong normalisation an adversarially trained network gains a little.
    for best in [row for row in better if row.accuracy > own.accuracy + FAR_BELOW][:1]:
        return (
            f"its labelled images contradict {own.candidate}: {best.candidate} answers {best.accuracy:.1%} "
            f"of {len(best.rightly)} rightly instead of {own.accuracy:.1%}; try {best.candidate.flags}"
        )
    return ""


def _question(
    trials: Trials, why: str, candidates: Sequence[Candidate], fits: Sequence[BatchNormEvidence]
) -> tuple[str, tuple[str, ...], Candidate, Labelled | None]:
    """The question in one line, the lines to choose from, and the first candidate of these with its labels.

    Args:
        why: what is not known, a clause.
        candidates: the nearest by batch-norms first; without these the most accurate ones are shown.
        fits: of the first of them.
    """
    shown = list(candidates)
    ranked = not fits and not trials.draws(shown[0])
    if ranked:
        shown = [row.candidate for row in _ranked(trials.labelled(shown, FEWEST))] or shown
    rows = trials.labelled(shown[:LINES])
    shown = [row.candidate for row in _ranked(rows)] if rows and ranked else shown[:LINES]
    figures = {one: list[str]() for one in shown}
    for row in rows:
        figures[row.candidate].append(f"{row.accuracy:.1%} of {len(row.rightly)}")
    for fit in fits[:LINES]:
        figures[fit.candidate].append(f"{fit.score:.2g}")
    named = ["right answers of labelled images"] if rows else []
    named += ["distance of its batch-norms from their statistics"] if fits else []
    of_what = f" ({', '.join(named)})" if named else ""
    if rows and all(row.at_chance(trials.checkpoint.classes) for row in rows):
        why += "; even the best of these lines answers as by chance, so the images may not be its own"
    heading = (
        f"{why}. State the network as it was trained, as in one of these lines{of_what}: an adversarially "
        "trained network may answer more rightly behind a wrong normalisation, so labels do not choose; "
        "`csrobust eval --guess` takes the first line"
    )
    behind = {one: f"  ({', '.join(said)})" if said else "" for one, said in figures.items()}
    lines = (*(f"  {one.flags}{behind[one]}" for one in shown), NONE_OF_THESE)
    return heading, lines, shown[0], next((row for row in rows if row.candidate == shown[0]), None)


def _ranked(rows: Sequence[Labelled]) -> list[Labelled]:
    """The most accurate first, of equal ones the most usual."""
    return sorted(rows, key=lambda row: -row.accuracy)


def _by_chance(checkpoint: Checkpoint, labelled: Labelled, better: Sequence[Labelled]) -> str:
    """Why a network is refused that answers as by chance, and what to try."""
    mend = "try another --arch, --normalize or --data"
    for best in [row for row in better if not row.at_chance(checkpoint.classes)][:1]:
        mend = f"behind another normalisation {best.accuracy:.1%} are: {best.candidate.flags}"
    notes = [note.rpartition("; ")[2] for note in checkpoint.notes if EVALUATES_ANOTHER in note]
    message = (
        f"{labelled.accuracy:.1%} of {len(labelled.rightly)} labelled images are right, and chance is "
        f"{1 / checkpoint.classes:.1%}: it is not trained, its labels are others, or a part without weights "
        "is wrong"
    )
    return "; ".join([message, *notes, mend])
