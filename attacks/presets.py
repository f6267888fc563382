"""Attacks that are run together, by the name of the set, and those that plans and checks ask for.

The product names attacks here and nowhere else; ``{}`` stands for a number.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import NamedTuple

from attacks.attack import GRAMMAR, examples, read_attack, read_runnable, suited

ONE_STEP = "fgsm"
USUAL = "pgd-20"
AVERAGED = "eot{}-pgd-20"
OF_LENGTH, AUTO_OF_LENGTH = "pgd-{}", "apgd-ce-{}"
TRANSFER = "transfer-pgd-20"
FROM_TRANSFER = "{}-pgd-40+init=transfer-pgd-20"  # of an estimator: goes on from what transfers

# What the adaptive presets run where a defence's operators hide its gradient, and nowhere else.
RELAXED = ("relaxed-pgd-20+momentum=1", "relaxed-eot4-apgd-ce-50")
# And where there is no gradient even then.
LAST_RESORT = ("square-1000",)
# What they run where inputs are answered together, and nowhere else. A step there follows the sum of the
# losses of a batch. Cross-entropy is flat where an answer is right by far and steep where it is wrong, and
# most of the gradient of the sum serves inputs that need none; the margin gives every input its share.
COUPLED = ("pgd-100+loss=margin+momentum=1", "aware-pgd-20+loss=margin")

# What they run where each input is answered by chance, and nowhere else: gradients averaged over draws can be
# led by a draw that is out of reach, and that of a known draw by the likeliest class.
JOINT = ("joint-33", "aware-joint-33")

# The rungs of the protocol (docs/protocol.md) that name attacks, each in its order. Rows of every table:
NAMED = (ONE_STEP, "pgd-10", "pgd-100", AVERAGED.format(10), "aware-pgd-10", TRANSFER)
FOLLOWS_SHOWN = NAMED[3]
# One cheap attack: gradients of the base model serve any batch, and follow no operator that hides a gradient.
QUICK, QUICK_HIDDEN = (TRANSFER, NAMED[1]), (TRANSFER, RELAXED[0])
# Where other attacks leave something, the cheaper ones first; smoothed ones before all where operators hide
# the gradient.
ADAPTIVE = (
    "fixed-pgd-10",
    "aware-pgd-20+init=transfer-pgd-20",
    COUPLED[1],
    "transfer-apgd-mt-20",
    # The margin and other classes: what cross-entropy alone leaves on a robust network.
    "apgd-mt-20",
    "pgd-100+momentum=1",
    COUPLED[0],
    *JOINT,
)
ADAPTIVE_HIDDEN = (*RELAXED, *LAST_RESORT)
# Before a positive verdict. Values that move one way, or in one place: what notices that they moved both
# ways, or everywhere. Smooth moves: what switches without any margin falling.
DEFERRED = ("parts-60", "switch-20")
# On victims: through the base model first, before a positive verdict through the defence with its draw
# unknown and known.
ON_VICTIMS = (TRANSFER, "pgd-10+loss=margin+momentum=1", "aware-pgd-10+loss=margin")
# Of presets, what only an open verdict needs.
SECOND_STAGE = (FOLLOWS_SHOWN, *ADAPTIVE[1:], *DEFERRED, *ADAPTIVE_HIDDEN)

# What checks ask for.
ANOTHER_LOSS, TWICE_THE_LOSS = "apgd-mt-20", "apgd-mt-40"
SEARCHES = (*LAST_RESORT, "random-1000")
ROUNDABOUT = "bpda-pgd-20"  # where gradients of the defence find less than what has none
# Without gradients: a difference between the two lengths asks for the next one.
BY_LABELS = ("rays-400", "rays-800")

# Attacks on a checkpoint, submitted to a defence around it. All steps for all examples: what stops at the
# first wrong answer hardly leaves the checkpoint's boundary.
THROUGH_CHECKPOINT = (TRANSFER, "transfer-apgd-mt-20")
# Where the checkpoint itself samples, and its gradients must come with draws.
OF_SAMPLING = (FOLLOWS_SHOWN, ANOTHER_LOSS)
# What the default runs where nothing else settles a network's verdict.
RECOMBINED = "crossover-160"
# What runs only before a positive verdict, then with twice the starts while these find more.
RESTARTED = "mosaic-8"

# Of csrobust sweep: the attacks of Table 10, and the one that shows what they miss.
SWEEP = (ONE_STEP, "pgd-10", TRANSFER)
# Of csrobust screen. Transfer needs no gradient of the defence and one victim; the rest is for defences that
# transfer does not break, and for networks whose gradients hide something.
SCREENED = (
    USUAL,
    TRANSFER,
    RELAXED[0],
    "aware-pgd-20+init=transfer-pgd-20",
    "aware-pgd-20",
    FOLLOWS_SHOWN,
    ANOTHER_LOSS,
    *LAST_RESORT,
)
STUDIED = ("pgd-10", TRANSFER)  # in ablations

PRESETS: dict[str, tuple[str, ...]] = {
    "paper": NAMED[:3],
    "adaptive": (*NAMED[3:], *ADAPTIVE, *DEFERRED, *ADAPTIVE_HIDDEN),
    # In the place of AutoAttack's standard suite (attacks/pgd.py, benchmarks/peers/robust_bench.md).
    "aa": ("aa-100",),
}
# In l0, where none of the others is at home: random pixels run beside all of them as random signs.
PRESETS["sparse"] = (
    "spgd-u-100",
    "spgd-p-100+loss=margin",
    "sigma-zero-100",
    "sparse-rs-1000",
    "eot10-spgd-u-20",
    "aware-spgd-u-20",
    "transfer-spgd-u-100",
    "transfer-sigma-zero-100",
)
# All of these, and whatever the default can come to: what checks ask for, and the last resort where nothing
# else settles a verdict.
PRESETS["full"] = tuple(
    dict.fromkeys(
        (
            *PRESETS["paper"],
            *PRESETS["adaptive"],
            USUAL,
            *THROUGH_CHECKPOINT,
            *OF_SAMPLING,
            *ON_VICTIMS,
            "aware-pgd-10",
            *(FROM_TRANSFER.format(estimator) for estimator in ("eot10", "aware")),
            "transfer-apgd-ce-100",
            "transfer-apgd-t-100",
            "eot20-apgd-ce-100",
            "aware-apgd-ce-50",
            "apgd-ce-100",
            "apgd-dlr-100",
            ROUNDABOUT,
            *SCREENED,
            TWICE_THE_LOSS,
            *SEARCHES,
            *BY_LABELS,
            RESTARTED,
            # What all others leave close to the boundary.
            RECOMBINED,
        )
    )
)

DEFAULT, IN_L0 = ("paper", "adaptive"), ("sparse",)


class Request(NamedTuple):
    """Where an attack runs.

    Attributes:
        on_batches: on the requested inputs.
        on_victims: on one victim among clean co-batched inputs.
        if_hidden: only where an operator hides the gradient.
        if_open: only where the others leave something.
    """

    on_batches: bool = True
    on_victims: bool = False
    if_hidden: bool = False
    if_open: bool = False


def is_adaptive(texts: Iterable[str]) -> bool:
    """True if a preset is named whose verdicts need the attacks that their checks ask for."""
    return any(text in PRESETS and text != "paper" for text in texts)


def requested(texts: Sequence[str], norm: str = "linf", also: str | None = None) -> dict[str, Request]:
    """Expands names and presets: each attack by name, in the order of tables.

    Args:
        also: the attack that a claim is about, which always runs.

    Raises:
        ValueError: a name that is unknown.
    """
    named = {text: expanded(text) for text in texts}
    besides = () if also is None else (str(read_runnable(also)),)
    # What a person names, or another preset has, runs whatever the defence is like; `full` means all of it.
    always = {"adaptive": (), "full": LAST_RESORT}
    written = {*chain(*(always.get(text, names) for text, names in named.items())), *besides}
    second = () if "full" in texts else SECOND_STAGE
    victims = in_norm(ON_VICTIMS, norm) if is_adaptive(texts) else ()
    attacks = dict.fromkeys([*chain(*named.values()), *besides])
    return {
        name: Request(
            on_batches=name in attacks,
            on_victims=name in victims,
            if_hidden=name in attacks and name in ADAPTIVE_HIDDEN and name not in written,
            if_open=name in attacks and name in second and name not in written,
        )
        for name in dict.fromkeys([*attacks, *victims])
    }


def expanded(text: str) -> tuple[str, ...]:
    """The attacks of a preset; the attack of a name.

    Raises:
        ValueError: it is neither.
    """
    if text in PRESETS:
        return PRESETS[text]
    try:
        return (str(read_runnable(text)),)
    except ValueError as error:
        if preset := get_close_matches(text.lower(), PRESETS, n=1, cutoff=0.7):
            hint = f"did you mean {preset[0]}?"
            raise ValueError(f"expected an attack's name, got {text!r}; {hint}") from None
        if text.isalpha():
            raise ValueError(f"{error}; presets: {', '.join(PRESETS)}") from None
        raise


def in_norm(names: Iterable[str], norm: str) -> tuple[str, ...]:
    """These attacks; in l0, in the place of those that do not know it, others of the same kind."""
    return tuple(str(suited(read_attack(name), norm)) for name in names)


def possible(names: Iterable[str], *, has_base: bool) -> tuple[str, ...]:
    """Those that a defence can meet, which names a base model or none."""
    return tuple(name for name in names if has_base or not read_attack(name).uses_base)


def reference() -> dict[str, str]:
    """Algorithms, what goes around them, and presets, by an example of the name of each."""
    usual_first = sorted(examples().items(), key=lambda item: item[1].name not in ("fgsm", "pgd"))
    algorithms = {name: "; ".join([f"{e.sentence}. {e.about}", *e.facts]) for name, e in usual_first}
    presets = {name: "preset: " + ", ".join(members) for name, members in PRESETS.items()}
    return {**algorithms, **GRAMMAR, **presets}
