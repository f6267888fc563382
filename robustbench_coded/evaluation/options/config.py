"""The options of an evaluation: one definition of each, with its type, default, sentence and values. The
command line, run.toml, `robustbench_coded.evaluate`, help and checks take them from here.

Later stages get the groups that they need; `EvalConfig` is all of them. What was typed stays as it was:
`EvalConfig.requests` says what presets stand for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from msgspec import to_builtins

from attacks.norms import NORMS
from attacks.presets import (
    DEFAULT,
    IN_L0,
    RELAXED,
    SCREENED,
    TRANSFER,
    Request,
    in_norm,
    is_adaptive,
    requested,
)
from robustbench_coded.defences.options import PIPED, brought
from robustbench_coded.errors import InputError
from robustbench_coded.options.claim import as_claim, read_claim
from robustbench_coded.options.option import Option, count, last, number, one_of, option, options_of
from robustbench_coded.options.values import (
    as_fraction,
    as_named_path,
    as_seconds,
    counts,
    kept_over,
    named_norm,
    named_paths,
    radii,
    seconds,
    state_rule,
    words,
)
from robustbench_coded.schema.case import Perturbation, StatedClaim
from robustbench_coded.schema.words import CONTROLS, MARGIN

SCREEN = "screen"  # the attacks of `csrobust screen`, which runs the first rungs of the protocol alone
AWARE_ATTACKS = 2  # separate attacks that each know one scoring draw
VICTIMS = 64  # of the threat models with one victim in a batch
SCREENED_VICTIMS = 4  # of `screen`: asked once, it errs least with the fewest random batches
# A batch goes through the network as a whole; more is a slip of the keyboard.
LARGEST_BATCH = 16_384
# Of processes or threads: torch crashes without a word where the machine refuses to start more.
MOST_AT_ONCE = 1_024
IMAGES_PER_UNIT = 50_000  # image gradients in one unit of work: seconds on a GPU, a minute on a laptop


def without_checkpoint(specs: Sequence[str]) -> bool:
    """True if these defences may be evaluated without one: one of the zoo, or a process alone."""
    return any(brought(spec) is not None for spec in specs) or (
        len(specs) == 1 and specs[0].strip().startswith(PIPED)
    )


@dataclass(frozen=True)
class ModelOptions:
    """Models and defences; ``checkpoints`` are (name, path) of each."""

    checkpoints: tuple[tuple[str, str], ...] = option(
        (),
        "Checkpoint, PATH or NAME=PATH; may be repeated. NAME='PATTERN*' names several trainings.",
        word="ckpt",
        read=named_paths,
        write=as_named_path,
    )
    arch: str | None = option(None, "Architecture name, or package.module:function that builds it.")
    normalize: str | None = option(
        None, "Normalisation: none, cifar10, cifar10-2023, imagenet or MEAN,MEAN,MEAN/STD,STD,STD."
    )
    rci: tuple[str, ...] = option(
        (),
        "Randomised coded inference with N coded images, such as N=190, N=1.5K (1.5 times the batch size) "
        "or N=190,average=4 (mean over 4 draws).",
    )
    coded: tuple[str, ...] = option((), "RCI without the random permutation, such as N=190.")
    defence: tuple[str, ...] = option(
        (),
        "Another defence: a name from `csrobust list defences`, package.module:build, file.py:build, or "
        "'cmd: COMMAND' to run one in another environment.",
    )
    standard: bool = option(True, "Also evaluate standard inference.")

    @property
    def defences(self) -> tuple[str, ...]:
        """Specifications: ``rci:N=190``, ``coded:N=128``, ``package.module:build``."""
        return (*(f"rci:{t}" for t in self.rci), *(f"coded:{t}" for t in self.coded), *self.defence)


@dataclass(frozen=True)
class DataOptions:
    """Data and batches; without ``limit`` and ``all``, rows run on as many examples as a verdict needs."""

    data: str = option("auto", "Data set: auto, digits, cifar10, cifar100, mnist, npz:FILE or folder:DIR.")
    data_dir: str | None = option(None, "Folder to search for data sets.")
    limit: int | None = option(None, "Evaluate a random, class-balanced sample of N examples.", count())
    all: bool = option(False, "Run every attack on every example, regardless of cost.")
    first: bool = option(False, "Use the first examples of the data set instead of a random sample.")
    batch_size: tuple[int, ...] = option(
        (128,),
        "Inputs classified together (K); comma-separated for several sizes.",
        count(most=LARGEST_BATCH),
        read=lambda texts, flag: counts(",".join(texts), flag),
    )
    state: str = option(
        "reset",
        "State of a defence: reset before each batch, or persistent:8, kept over 8 batches.",
        state_rule,
    )

    @property
    def batches_kept(self) -> int:
        """Batches over which a defence keeps its state; 0 where it is reset before each."""
        return kept_over(self.state) or 0


@dataclass(frozen=True)
class AttackOptions:
    """Attacks; None is the default of the norm, for eps of the data set; several eps are a security curve."""

    attacks: tuple[str, ...] | None = option(
        None,
        "Presets (paper, adaptive, aa, full) and names from `csrobust list attacks`, comma-separated.",
        read=words,
        shown="paper,adaptive",
    )
    norm: str = option("linf", "Norm: linf, l2, l1 or l0 (pixels).", one_of(*NORMS), read=last(named_norm))
    eps: tuple[float, ...] | None = option(
        None,
        "Perturbation radius; default 8/255 (digits 0.3; l2 0.5 on 32x32 images). Comma-separated radii "
        "give a curve.",
        number(0),
        read=radii,
        write=as_fraction,
    )
    eps_space: Literal["pixel", "normalized"] = option(
        "pixel",
        "Space in which eps is measured: pixel ([0, 1]) or normalized (after normalisation; in pixels, "
        "eps is multiplied by each channel's standard deviation).",
    )
    inputs: tuple[str, ...] = option(
        ("batch",),
        "Inputs that the attacker controls: batch (all), victim (one) or co-batch (one, beside others of "
        "the attacker's choice).",
        read=words,
    )

    @property
    def screens(self) -> bool:
        """True for the attacks of `screen`, which runs the first rungs of the protocol alone."""
        return self.attacks == (SCREEN,)

    @property
    def victims(self) -> int:
        """Of the threat models with one victim in a batch."""
        return SCREENED_VICTIMS if self.screens else VICTIMS

    @property
    def checks(self) -> bool:
        """True if the attacks run that the checks of verdicts require: presets say so."""
        return is_adaptive(self.typed)

    @property
    def typed(self) -> tuple[str, ...]:
        """Names and presets, as they were typed or by default."""
        return (IN_L0 if self.norm == "l0" else DEFAULT) if self.attacks is None else self.attacks

    def perturbations(self, eps: Sequence[float]) -> tuple[Perturbation, ...]:
        """The budgets of these radii."""
        return tuple(Perturbation(self.norm, size, self.eps_space) for size in eps)


@dataclass(frozen=True)
class DrawOptions:
    """Draws and seed, which names all streams of random numbers.

    Attributes:
        selection_draws: to choose attacks by; no option, a constant of evaluations.
    """

    draws: int = option(
        10, "Number of fresh draws on which a randomised defence is scored.", count(most=10_000)
    )
    seed: int = option(0, "Random seed of the run.", count(0, 2**63 - 1))
    selection_draws: int = 2

    @property
    def known_draws(self) -> int:
        """Scoring draws that are attacked one by one where the attacker knows them."""
        return min(AWARE_ATTACKS, self.draws)


@dataclass(frozen=True)
class VerdictOptions:
    """Verdicts, claims, time; ``time`` is in seconds."""

    margin: float = option(
        100 * MARGIN,
        "Smallest improvement over the base model that counts as a gain, in points.",
        number(0, 100),
    )
    claim: StatedClaim | None = option(
        None,
        "A claimed accuracy to test, and where it was measured: 72%, or '72% pgd-10 batch/unknown "
        "eps=8/255 votes=5' (the majority of 5 draws). The attack is added to --attacks.",
        read=last(read_claim),
        write=as_claim,
    )
    time: float | None = option(
        None,
        "Stop cleanly after this time (90s, 30m, 2h) and report what is done; the same command resumes.",
        number(0, above=True),
        read=last(seconds),
        write=as_seconds,
    )
    until: Literal["settled"] | None = option(
        None, "Stopping rule: settled skips attacks that can no longer change the verdict."
    )


@dataclass(frozen=True)
class HardwareOptions:
    """Hardware; threads that are not given are those that the run folder began with, else OMP_NUM_THREADS."""

    device: str | None = option(
        None, "Device: cpu, cuda, mps, xpu or cuda:1; default: the accelerator if there is one, else cpu."
    )
    attack_precision: Literal["float32", "bfloat16", "auto"] = option(
        "float32", "Precision of attack gradients: float32, bfloat16 or auto."
    )
    threads: int | None = option(None, "CPU threads per worker.", count(most=MOST_AT_ONCE))
    workers: int | None = option(
        None, "Worker processes; by default one per GPU if there are several.", count(most=MOST_AT_ONCE)
    )
    engine: Literal["local", "ray"] = option(
        "local", "Where workers run: local or ray (started here, or the cluster of RAY_ADDRESS)."
    )


@dataclass(frozen=True)
class OutputOptions:
    """Output; ``command`` is the command line, which is no option."""

    out: Path | None = option(None, "Run folder; by default named after the checkpoint and the data.")
    overwrite: bool = option(False, "Delete the run in this folder and start again.")
    save_adversarials: bool = option(False, "Store every perturbed input, for `csrobust verify`.")
    command: tuple[str, ...] = field(default=(), compare=False)


# The order of `--help`.
GROUPS: dict[str, type] = {
    "Models and defences": ModelOptions,
    "Data and batches": DataOptions,
    "Attacks": AttackOptions,
    "Draws and seed": DrawOptions,
    "Verdicts, claims, time": VerdictOptions,
    "Hardware": HardwareOptions,
    "Output": OutputOptions,
}


@dataclass(frozen=True)
class EvalConfig(
    OutputOptions,
    HardwareOptions,
    VerdictOptions,
    DrawOptions,
    AttackOptions,
    DataOptions,
    ModelOptions,
):
    """The options of one evaluation."""

    @property
    def requests(self) -> dict[str, Request]:
        """Where each attack runs that the names and presets stand for.

        Raises:
            InputError: an unknown name.
        """
        claimed = None if self.claim is None else self.claim.attack
        found = _screened(self.norm) if self.screens else _requested(self.typed, self.norm, claimed)
        if self.batches_kept:  # co-batched inputs are drawn at random, whatever batches are like
            found = {name: each._replace(on_victims=False) for name, each in found.items() if each.on_batches}
        return found

    @property
    def attack_names(self) -> tuple[str, ...]:
        """The attacks on the requested inputs."""
        return tuple(name for name, each in self.requests.items() if each.on_batches)

    @property
    def keeps_adversarials(self) -> bool:
        """True if perturbed inputs are stored: a claim that is refuted needs them as evidence."""
        return self.save_adversarials or self.claim is not None

    def as_data(self) -> dict[str, Any]:
        """Plain JSON data, for run.json; attacks one by one."""
        resolved = {"attacks": self.attack_names, "checks": self.checks}
        return to_builtins(self, enc_hook=str) | resolved


@cache
def _requested(typed: tuple[str, ...], norm: str, claimed: str | None) -> dict[str, Request]:
    if "" in typed:
        said = ",".join(typed)
        raise InputError(f"--attacks {said!r} has an empty name; write names divided by single commas")
    # They run, named or not.
    names = [name for name in typed if name not in CONTROLS]
    if typed and not names:
        said = ",".join(typed)
        raise InputError(f"--attacks {said}: this always runs; name an attack besides, as fgsm")
    try:
        return requested(names, norm, claimed)
    except ValueError as error:
        raise InputError(f"--attacks: {error}") from error


@cache
def _screened(norm: str) -> dict[str, Request]:
    transfer, hidden = in_norm((TRANSFER, RELAXED[0]), norm)
    names = in_norm(SCREENED, norm)
    return {name: Request(on_victims=name == transfer, if_hidden=name == hidden) for name in names}


@cache
def options() -> dict[str, Option]:
    """Every option of `EvalConfig`, by name, in the order of `--help`."""
    return {name: option for group in GROUPS.values() for name, option in options_of(group).items()}


# Those that `robustbench_coded.evaluate` makes from arguments of its own.
OF_ARGUMENTS = frozenset({"checkpoints", "data", "rci", "coded", "defence", "attacks"})

DIGITS_LINF = 0.3  # of scikit-learn's and of MNIST
LINF = 8 / 255
CIFAR_L2 = 0.5
CIFAR_SHAPE = (3, 32, 32)


def default_eps(norm: str, data: str, image_shape: tuple[int, ...]) -> float:
    """The default radius, in pixel units.

    Args:
        norm: of the perturbation budget.
        data: the data set as text.
        image_shape: of one image, [C, H, W].

    Raises:
        InputError: the field has no usual radius for this norm on such images.
    """
    if norm == "linf":
        return DIGITS_LINF if data in ("digits", "mnist") else LINF
    if norm == "l2" and tuple(image_shape) == CIFAR_SHAPE:
        return CIFAR_L2
    size = "x".join(map(str, image_shape))
    example = "10" if norm == "l0" else "0.5"
    raise InputError(
        f"--norm {norm} has no usual radius on {data} (images {size}); give one, for example --eps {example}"
    )
