"""Candidates: ways to assemble one file's weights, what labelled images say of them, and the question that is
asked where nothing but labels could choose.

A network that was trained adversarially often answers more images rightly behind a wrong normalisation, and
is robust behind the right one alone. So labels order candidates for a person, and choose none.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import standing_under_pgd
from robustbench_coded.errors import InputError
from robustbench_coded.models.build import construct, give_places
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.pixel_model import OtherInput, PixelModel, multiplications
from robustbench_coded.models.registry import INACTIVE, INPUT, changed, find, split_variant, unchanged

ANSWERED_AT_ONCE = 32  # on a CPU wide networks answer so many a third faster than 128

# Work is counted in multiplications, not in seconds: a core makes about 20e9 of these a second. Of each step
# of a question the fewest and most images of a candidate, and multiplications for all candidates together;
# the first are for the candidate that is decided on:
LABELLED_IMAGES, LABELLED_MULTIPLICATIONS = (64, 2048), 30e9
SCREENED_IMAGES, SCREENED_MULTIPLICATIONS = (4, 64), 15e9
COMPARED_IMAGES, COMPARED_MULTIPLICATIONS = (16, 512), 30e9
ATTACKED_IMAGES, ATTACK_MULTIPLICATIONS = (0, 64), 90e9
PGD_STEPS = 10
LINES, FORMS = 5, 3  # lines of a question; forms that are compared behind every normalisation
FAR = 0.2  # a candidate so much less accurate than the best one is not shown


@dataclass(frozen=True)
class Candidate:
    """A way to assemble the weights.

    Attributes:
        arch: a variant of the architecture, as ``--arch`` takes it.
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
    def unusual_parts(self) -> int:
        """How many parts of its architecture are not as usual."""
        return len(split_variant(self.arch)[1])

    @property
    def flags(self) -> str:
        """The options that state it on the command line."""
        name = self.normalisation.name
        return f"--arch '{self.arch}' --normalize {str(self.normalisation) if name == 'custom' else name}"


@dataclass(frozen=True)
class Stated:
    """A network as stated by the user or the file; None for parts that are not."""

    arch: str | None
    normalisation: Normalisation | None

    def allows(self, candidate: Candidate) -> bool:
        """True if a candidate is what is stated, as far as anything is."""
        return self.arch in (None, candidate.arch) and self.normalisation in (None, candidate.normalisation)


@dataclass(frozen=True)
class Labelled:
    """A candidate on labelled images.

    Attributes:
        rightly: [n] bool, which of the first n images it answers rightly.
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

    def less_accurate_than(self, other: "Labelled") -> bool:
        """True if it is so beyond chance."""
        return self.accuracy + self.error < other.accuracy


@dataclass
class Assembly:
    """Builds candidates of one checkpoint and has them answer labelled images; each image once.

    Attributes:
        checkpoint: as loaded; its weights are shared by all candidates, which differ in parts that leave no
            trace in these.
        images: [n, C, H, W] in [0, 1].
        labels: [n] int64; None where there are none.
        device: where candidates answer.
    """

    checkpoint: Checkpoint
    images: Tensor
    labels: Tensor | None
    device: torch.device
    _rightly: dict[Candidate, Tensor] = field(default_factory=dict)
    _networks: dict[str, nn.Module] = field(default_factory=dict)

    @cached_property
    def parts(self) -> Mapping[str, tuple[str | int, ...]]:
        """Those of the architecture that leave no trace, with their other forms; none of the user's own."""
        try:
            return find(self.checkpoint.arch)[0].variants
        except InputError:
            return {}

    def network(self, arch: str) -> nn.Module:
        """The network of a variant, with the checkpoint's weights.

        Raises:
            InputError: there is no such variant.
        """
        source = self.checkpoint
        if not self._networks:
            self._networks[source.arch] = source.network.to(self.device)
        if arch not in self._networks:
            if (form := split_variant(arch)[1].get(INPUT)) is not None:
                built: nn.Module = OtherInput(self.network(unchanged(arch, INPUT)), form)
            else:
                inner = source.network.network if isinstance(source.network, OtherInput) else source.network
                weights = inner.state_dict()
                built = construct(arch, source.classes, source.channels, source.image_size)
                give_places(built, weights)
                built.load_state_dict(weights, assign=True)
            self._networks[arch] = built.eval().requires_grad_(False)
        return self._networks[arch]

    def forms(self, arch: str, part: str) -> list[str]:
        """``arch`` with that part as usual and in its other forms, as far as there are such networks."""
        archs = [unchanged(arch, part)]
        for form in self.parts[part]:
            with suppress(InputError):
                self.network(changed(arch, part, form))
                archs.append(changed(arch, part, form))
        return archs

    def one_part_away(self, arch: str) -> list[str]:
        """``arch`` with each of its parts in every form."""
        return [form for part in self.parts for form in self.forms(arch, part)]

    @cached_property
    def cost(self) -> int:
        """Multiplications for one image."""
        image = self.images[:1].contiguous()
        return multiplications(self.network(self.checkpoint.arch), image.to(self.device))

    @property
    def samples(self) -> bool:
        """True if the network draws in every answer."""
        return bool(getattr(self.checkpoint.network, "samples", False))

    def affordable(self, limits: tuple[int, int], total: float, candidates: int = 1) -> int:
        """Images that so many multiplications pay for, within these limits."""
        return max(limits[0], min(limits[1], int(total / (max(candidates, 1) * self.cost))))

    def model(self, candidate: Candidate) -> PixelModel:
        """The candidate, from pixels to logits."""
        network, taken = self.network(candidate.arch), candidate.normalisation
        classes = self.checkpoint.classes
        model = PixelModel(network, taken.mean, taken.std, classes=classes, arch=candidate.arch)
        return model.to(self.device)

    @torch.no_grad()
    def labelled(self, candidate: Candidate, count: int | None = None) -> Labelled:
        """The candidate on at least the first ``count`` images; labels have to be there.

        Args:
            count: None for as many as the candidate that is decided on is asked about.
        """
        assert self.labels is not None
        if count is None:
            count = self.affordable(LABELLED_IMAGES, LABELLED_MULTIPLICATIONS)
        known = self._rightly.get(candidate, torch.empty(0, dtype=torch.bool))
        if len(known) < min(count, len(self.images)):
            torch.manual_seed(len(known))  # networks that sample draw alike for every candidate
            pieces, model = self.images[len(known) : count].split(ANSWERED_AT_ONCE), self.model(candidate)
            answers = [model(x.to(self.device)).nan_to_num(nan=0.0).argmax(1).cpu() for x in pieces]
            known = torch.cat([known, torch.cat(answers) == self.labels[len(known) : count]])
            self._rightly[candidate] = known
        return Labelled(candidate, known)


@dataclass(frozen=True)
class Question:
    """A question to the user: which candidate is right.

    Attributes:
        why: what is not known, a clause.
        choices: candidates in the order of their labelled accuracy; at most LINES, none without labels.
        attacked: how many of the first images were attacked; 0 where that takes too long.
        standing: how many of these each candidate answers rightly at every step of PGD.
        budget: of the attack.
    """

    why: str
    choices: tuple[Labelled, ...]
    attacked: int
    standing: tuple[int, ...]
    budget: PerturbationBudget

    @property
    def heading(self) -> str:
        """The question, in one line."""
        if not self.choices:
            return f"{self.why}; state --arch and --normalize"
        return (
            f"{self.why}, and labels alone do not decide: an adversarially trained network may answer more "
            "rightly behind a wrong normalisation. State the network as it was trained, as in one of these "
            f"lines (accuracy on clean images, and under PGD-{PGD_STEPS} at {self.budget.norm} "
            f"{self.budget.eps:.3g}); `csrobust eval --guess` takes the first one"
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The candidates, one a line, their figures behind the options to copy."""
        attacked = [f"{n / self.attacked:.1%} of {self.attacked}" for n in self.standing if self.attacked]
        pairs = zip(self.choices, attacked or ["not attacked"] * LINES, strict=False)
        return tuple(
            f"  {choice.candidate.flags}  ({choice.accuracy:.1%} of {len(choice.rightly)}; {under})"
            for choice, under in pairs
        )


def question(
    assembly: Assembly,
    why: str,
    arch: str,
    parts: Sequence[str],
    normalisations: Sequence[Normalisation],
    budget: Callable[[tuple[float, ...]], PerturbationBudget],
    accuracy: tuple[str, float] | None = None,
) -> Question:
    """Orders candidates by labelled accuracy and attacks the first ones.

    Args:
        why: what is not known, a clause.
        arch: the form to begin with.
        parts: those that are open; of the others the form stays.
        normalisations: those that come into question, the most usual first.
        budget: from the deviations of a normalisation to the perturbation budget.
        accuracy: what the file states, by the entry's name.
    """
    usual = Candidate(arch, normalisations[0])
    if assembly.labels is None:
        return Question(why, (), 0, (), budget(usual.normalisation.std))
    choices = _shown(_compared(assembly, usual, parts, normalisations))
    if (form := with_fewer_activations(assembly, choices)) is not None:
        own, *others = (assembly.labelled(choice.candidate) for choice in (form, *choices))
        if accuracy and _reaches(own, accuracy[1]) and not any(_reaches(row, accuracy[1]) for row in others):
            most = max(row.accuracy for row in others)
            why = (
                f"its file says {accuracy[0]} {accuracy[1]:.2%}, which {form.candidate} reaches "
                f"({own.accuracy:.2%} of {len(own.rightly)} images) and no usual form does (at most "
                f"{most:.2%}); {why}"
            )
            choices = [form, *choices[: LINES - 1]]
        else:
            choices = [*choices[: LINES - 1], form]
    cost = 3 * PGD_STEPS * len(choices)  # a step is a forward pass, and a backward pass of twice its cost
    count = min(assembly.affordable(ATTACKED_IMAGES, ATTACK_MULTIPLICATIONS, cost), len(assembly.images))
    x, y = assembly.images[:count].to(assembly.device), assembly.labels[:count].to(assembly.device)
    standing = (
        standing_under_pgd(assembly.model(candidate), x, y, budget(candidate.normalisation.std), PGD_STEPS)
        for candidate in (each.candidate for each in choices)
    )
    return Question(why, tuple(choices), count, tuple(standing), budget(usual.normalisation.std))


def _compared(
    assembly: Assembly, usual: Candidate, parts: Sequence[str], normalisations: Sequence[Normalisation]
) -> list[Labelled]:
    """The best few forms behind every normalisation, each on the same images."""
    best = [usual]
    for part in [*parts, *parts]:  # a wrong form of one hides another
        forms = assembly.forms(best[0].arch, part)
        tried = (Candidate(form, normalisation) for form in forms for normalisation in normalisations)
        best = _screened(assembly, [*best, *tried])
    archs = list(dict.fromkeys([*list(dict.fromkeys(c.arch for c in best))[:FORMS], usual.arch]))
    candidates = [Candidate(arch, normalisation) for arch in archs for normalisation in normalisations]
    count = assembly.affordable(COMPARED_IMAGES, COMPARED_MULTIPLICATIONS, len(candidates))
    return [assembly.labelled(candidate, count) for candidate in candidates]


def with_fewer_activations(assembly: Assembly, choices: Sequence[Labelled]) -> Labelled | None:
    """The most accurate form without some of its activations; None unless it beats all choices.

    A published definition decides the activations, and people edit it.
    """
    if INACTIVE not in assembly.parts or any(INACTIVE in choice.candidate.arch for choice in choices):
        return None
    forms = assembly.forms(choices[0].candidate.arch, INACTIVE)[1:]
    tried = [Candidate(form, choice.candidate.normalisation) for form in forms for choice in choices]
    count = len(choices[0].rightly)
    best = max((assembly.labelled(c, count) for c in tried), key=lambda row: row.accuracy)
    return best if best.accuracy > choices[0].accuracy else None


def _reaches(labelled: Labelled, accuracy: float) -> bool:
    """True within a standard error: it chooses among the lines of a question, and decides nothing."""
    return labelled.accuracy + labelled.error / 3 >= accuracy


def _screened(assembly: Assembly, tried: Sequence[Candidate]) -> list[Candidate]:
    """The same by the first images, the most accurate first, of equal ones the most usual."""
    count = assembly.affordable(SCREENED_IMAGES, SCREENED_MULTIPLICATIONS, len(tried))
    seen = [assembly.labelled(candidate, count) for candidate in dict.fromkeys(tried)]
    seen.sort(key=lambda labelled: (-int(labelled.rightly[:count].sum()), labelled.candidate.unusual_parts))
    return [labelled.candidate for labelled in seen]


def _shown(compared: Sequence[Labelled]) -> list[Labelled]:
    """Those to ask about: of every normalisation one form, the most accurate first, then further forms.

    Of a normalisation's forms that labels do not tell apart the most usual one is taken.
    """

    def rank(row: Labelled) -> tuple[float, int]:
        return -row.accuracy, row.candidate.unusual_parts

    ordered = sorted(compared, key=rank)
    first: dict[Normalisation, Labelled] = {}
    for row in ordered:
        best = first.setdefault(row.candidate.normalisation, row)
        if row.candidate.unusual_parts < best.candidate.unusual_parts and not row.less_accurate_than(best):
            first[row.candidate.normalisation] = row
    shown = [*sorted(first.values(), key=rank), *(row for row in ordered if row not in first.values())]
    return [row for row in shown if row.accuracy >= ordered[0].accuracy - FAR][:LINES]
