"""Everything that decides an evaluation, as plain data: its options, the radius where none is given,
and what names of attacks and presets stand for.

``run.toml`` has the options as a file that ``csrobust eval run.toml`` repeats. Its keys are the options of
the command line without their hyphens; its values are what stands behind them. What the presets stand
for and no option says has the names of `EvalConfig`'s fields.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

from attacks.naming import expand, parse, suited
from attacks.norms import NORMS
from attacks.presets import LAST_RESORT, ON_VICTIMS, PRESETS, RELAXED, SCREENED, SECOND_STAGE
from robustbench_coded.defences.options import PIPED, brought
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.conditions import Conditions, RequestedAttacks
from robustbench_coded.evaluation.options.option import count, number, one_of, option
from robustbench_coded.schema.case import Perturbation, setting_of_claim
from robustbench_coded.schema.words import CONTROLS, STANDARD

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
class EvalConfig:
    """The options of one evaluation; their help says what most of them do.

    Attributes:
        checkpoints: (name, path) of each checkpoint.
        normalize: normalisation as text; None takes the stored one, or that of batch-norms' statistics.
        data: data set as text (``digits``, ``cifar10``, ``npz:FILE`` ...), or ``auto``.
        limit: how many examples are taken, on all of which every row runs; None takes all there are.
        all: run every row on all examples. Without ``limit`` and ``all``, rows run on as many examples as a
            verdict needs.
        defences: defence specifications as text (``rci:N=190``, ``coded:N=128``, ``package.module:build``).
        attacks: names of attacks, presets expanded.
        victim_attacks: attacks that are also run against one victim among clean co-batched inputs.
        relaxed_attacks: those of ``attacks`` that run only where an operator hides the gradient.
        second_attacks: those of ``attacks`` that run only where the others leave something.
        norm, eps, eps_space: the budget; several eps are a security curve, None is the data set's default.
        aware_attacks: separate attacks under known randomness, each for one scoring draw.
        early_stop: stop on examples already misclassified where that changes nothing but the time.
        device: ``cpu``, ``cuda`` ...; None takes the accelerator where there is one.
        threads: CPU threads of each worker; None takes what the run folder began with, else OMP_NUM_THREADS,
            else cores / workers.
        workers: processes that compute units; None computes in this one, or in one for each of several GPUs.
        time: seconds after which the run ends cleanly, at the end of a unit.
        until: ``settled``: run what may change a verdict, and nothing else.
        claim: a claimed accuracy, a fraction; claim_threat, claim_eps: the threat model and radius that it is
            about; claim_votes: of how many answers to an input the majority counts.
    """

    checkpoints: tuple[tuple[str, str], ...]
    arch: str | None = option(None, "Architecture name, or package.module:function that builds it.")
    normalize: str | None = option(
        None, "Normalisation: none, cifar10, cifar10-2023, imagenet or MEAN,MEAN,MEAN/STD,STD,STD."
    )
    guess: bool = option(
        False,
        "If architecture or normalisation is ambiguous, use the candidate with the highest accuracy on the "
        "labelled data.",
    )
    data: str = option("auto", "Data set: auto, digits, cifar10, cifar100, mnist, npz:FILE or folder:DIR.")
    data_dir: str | None = option(None, "Folder to search for data sets.")
    limit: int | None = option(None, "Evaluate a random, class-balanced sample of N examples.", count())
    all: bool = option(False, "Run every attack on every example, regardless of cost.")
    first: bool = option(False, "Use the first examples of the data set instead of a random sample.")
    batch_size: tuple[int, ...] = option(
        (128,),
        "Inputs classified together (K); comma-separated for several sizes.",
        count(most=LARGEST_BATCH),
    )
    standard: bool = option(True, "Also evaluate standard inference.")
    defences: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    victim_attacks: tuple[str, ...] = ()
    relaxed_attacks: tuple[str, ...] = ()
    second_attacks: tuple[str, ...] = ()
    norm: str = option(
        "linf",
        "Norm: linf, l2, l1 or l0 (pixels).",
        one_of(*NORMS),
    )
    eps: tuple[float, ...] | None = option(
        None,
        "Perturbation radius; default 8/255 (digits 0.3; l2 0.5 on 32x32 images). Comma-separated radii give "
        "a curve.",
        number(0),
    )
    eps_space: str = option(
        "pixel",
        "Space in which eps is measured: pixel ([0, 1]) or normalized (after normalisation; in pixels, eps "
        "is multiplied by each channel's standard deviation).",
        one_of("pixel", "normalized"),
    )
    inputs: tuple[str, ...] = option(
        ("batch",),
        "Inputs that the attacker controls: batch (all, default), victim (one) or co-batch (one, beside "
        "others of the attacker's choice).",
    )
    draws: int = option(
        10, "Number of fresh draws on which a randomised defence is scored.", count(most=10_000)
    )
    selection_draws: int = option(
        2, "Number of draws used to select the strongest attack.", count(most=10_000)
    )
    aware_attacks: int = option(AWARE_ATTACKS, rule=count(most=10_000))
    seed: int = option(0, "Random seed of the run.", count(0, 2**63 - 1))
    early_stop: bool = option(
        True, "Stop attacking an example once it is misclassified (deterministic defences only)."
    )
    attack_precision: str = option(
        "float32",
        "Precision of attack gradients: float32, bfloat16 or auto.",
        one_of("float32", "bfloat16", "auto"),
    )
    device: str | None = option(
        None, "Device: cpu, cuda, mps, xpu or cuda:1; default: the accelerator if there is one, else cpu."
    )
    threads: int | None = option(None, "CPU threads per worker.", count(most=MOST_AT_ONCE))
    engine: str = option(
        "local",
        "Where workers run: local or ray (started here, or the cluster of RAY_ADDRESS).",
        one_of("local", "ray"),
    )
    workers: int | None = option(
        None, "Worker processes; by default one per GPU if there are several.", count(most=MOST_AT_ONCE)
    )
    time: float | None = option(
        None,
        "Stop cleanly after this time (90s, 30m, 2h) and report what is done; the same command resumes.",
        number(0, above=True),
    )
    until: str | None = option(
        None,
        "Stopping rule: settled skips attacks that can no longer change the verdict.",
        one_of("settled"),
    )
    checks: bool = False  # run the attacks that the checks of verdicts require: presets do
    state: str = option(
        "reset",
        "State of a defence: reset before each batch, or persistent over a sequence of batches.",
        one_of("reset", "persistent"),
    )
    sequence_length: int = option(8, "Batches per sequence with --state persistent.", count(2, 10_000))
    save_adversarials: bool = option(False, "Store every perturbed input, for `csrobust verify`.")
    margin: float = option(
        3.0, "Smallest improvement over the base model that counts as a gain, in points.", number(0, 100)
    )
    claim: float | None = option(None, "A claimed accuracy to test, 0.72 or 72%.", number(0, 1))
    claim_threat: str | None = option(
        None, "Threat model of the claim; default: the first of --inputs, draw unknown."
    )
    claim_eps: float | None = option(None, "Radius of the claim; default: the largest of --eps.", number(0))
    claim_votes: int | None = option(
        None, "Test the claim for the majority vote of this many draws, not the mean.", count(2, 10_000)
    )
    claim_attack: str | None = option(
        None, "Attack under which the claimed accuracy was measured; added to --attacks."
    )
    out: Path | None = option(None, "Run folder; by default named after the checkpoint and the data.")
    overwrite: bool = option(False, "Delete the run in this folder and start again.")
    command: tuple[str, ...] = field(default=(), compare=False)

    @property
    def screens(self) -> bool:
        """True for the attacks of `screen`, which runs the first rungs of the protocol alone."""
        return self.until == "settled" and set(self.attacks) == {suited(n, self.norm) for n in SCREENED}

    @property
    def batches_kept(self) -> int:
        """Batches over which a defence keeps its state; 0 where it is reset before each."""
        return self.sequence_length if self.state == "persistent" else 0

    @property
    def conditions(self) -> Conditions:
        """How cases are attacked and scored."""
        return Conditions(
            seed=self.seed,
            draws=self.draws,
            selection_draws=self.selection_draws,
            aware_attacks=self.aware_attacks,
            victims=SCREENED_VICTIMS if self.screens else VICTIMS,
            early_stop=self.early_stop,
            # A claim that is refuted needs them as evidence.
            keeps_adversarials=self.save_adversarials or self.claim is not None,
        )

    def requested(self, eps: Sequence[float]) -> RequestedAttacks:
        """The requested attacks, within these radii."""
        claimed = None
        if self.claim is not None:
            claimed = setting_of_claim(self.claim_threat, self.claim_eps, self.inputs, eps)
        return RequestedAttacks(
            attacks=self.attacks,
            # Co-batched inputs are drawn at random, whatever batches are like.
            victim_attacks=() if self.batches_kept else self.victim_attacks,
            relaxed_attacks=self.relaxed_attacks,
            second_attacks=self.second_attacks,
            inputs=self.inputs,
            perturbations=tuple(Perturbation(self.norm, size, self.eps_space) for size in eps),
            claimed=claimed,
            standard=STANDARD in self.defences,
        )

    def as_data(self) -> dict:
        """Plain JSON data, for run.json."""
        data = asdict(self)
        data["out"] = None if self.out is None else str(self.out)
        return data


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


DEFAULT = ("paper", "adaptive")
IN_L0 = ("sparse",)


def attack_options(
    texts: Sequence[str] = (), *, norm: str = "linf", claimed: str | None = None
) -> dict[str, Any]:
    """The fields ``attacks``, ``victim_attacks``, ``relaxed_attacks``, ``second_attacks`` and ``checks`` of a
    configuration.

    Args:
        texts: names and presets, each one or several divided by commas; none for the default of the norm.
            ``clean`` and ``random-sign`` always run, named or not.
        claimed: the attack that a claim is about, which always runs.
    Raises:
        InputError: an unknown name.
    """
    default = IN_L0 if norm == "l0" else DEFAULT
    parts = [part.strip() for text in texts or default for part in text.split(",")]
    if "" in parts:
        raise InputError(
            f"--attacks {','.join(texts)!r} has an empty name; write names divided by single commas"
        )
    if not (parts := [part for part in parts if part not in CONTROLS]):
        raise InputError(f"--attacks {','.join(texts)}: this always runs; name an attack besides, as fgsm")
    try:
        names = tuple(name.text for name in expand(",".join(parts)))
    except ValueError as error:
        raise InputError(f"--attacks: {error}") from error
    # What a person names, or another preset has, runs whatever the defence is like.
    always = {"adaptive": (), "full": LAST_RESORT}
    written = {name for part in parts for name in always.get(part, PRESETS.get(part, (part,)))}
    if claimed is not None:
        try:
            name = parse(claimed).text
        except ValueError as error:
            raise InputError(f"--claim-attack: {error}") from error
        names = tuple(dict.fromkeys((*names, name)))
        written.add(name)
    adaptive = any(part in PRESETS and part != "paper" for part in parts)
    return {
        "attacks": names,
        "relaxed_attacks": tuple(
            name for name in (*RELAXED, *LAST_RESORT) if name in names and name not in written
        ),
        # `full` means all of it.
        "second_attacks": tuple(
            name for name in SECOND_STAGE if name in names and name not in written and "full" not in parts
        ),
        "victim_attacks": tuple(suited(name, norm) for name in ON_VICTIMS) if adaptive else (),
        "checks": adaptive,
    }


# Written in a form of their own, or not at all: they say how a command was typed, not what it evaluates. The
# folder is where the file lies, so that a run that is moved still names itself.
_ATTACKS = ("attacks", "victim_attacks", "relaxed_attacks", "second_attacks", "checks")
_OTHERWISE = {*_ATTACKS, "checkpoints", "defences", "eps", "batch_size"}
_NEVER = {"command", "overwrite", "out"}


def run_toml(config: EvalConfig) -> str | None:
    """The options that are not at their defaults, as TOML; None where a name holds bytes that are no text."""
    lines = [f"{key} = {_toml(value)}" for key, value in _entries(config)]
    first = "# csrobust eval run.toml repeats this evaluation; options behind it change it."
    text = "\n".join([first, *lines, ""])
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _entries(config: EvalConfig) -> Iterator[tuple[str, Any]]:
    if config.checkpoints:
        named = [path if Path(path).stem == name else f"{name}={path}" for name, path in config.checkpoints]
        yield "ckpt", named
    if config.defences:
        yield "defence", list(config.defences)
    yield from _attacks(config)
    if config.eps is not None:
        yield "eps", [_fraction(eps) for eps in config.eps]
    yield "batch_size", list(config.batch_size)
    for entry in fields(config):
        value = getattr(config, entry.name)
        if entry.name in _OTHERWISE | _NEVER or value is None or value == entry.default:
            continue
        if entry.name == "time":
            yield "time", f"{value:.17g}s"
        elif entry.name == "claim_eps":
            yield entry.name, _fraction(value)
        elif isinstance(value, tuple | bool | int | float):
            yield entry.name, list(value) if isinstance(value, tuple) else value
        else:
            yield entry.name, str(value)


def _attacks(config: EvalConfig) -> Iterator[tuple[str, Any]]:
    """The presets that stand for these attacks, where some do, and what is named besides; else every name."""
    wanted = {name: getattr(config, name) for name in _ATTACKS}
    presets = [DEFAULT, *((name,) for name in PRESETS), *combinations(PRESETS, 2)]
    for chosen in presets:
        among = attack_options(chosen, norm=config.norm)["attacks"]
        besides = tuple(name for name in config.attacks if name not in among)
        for texts in ((*chosen, *besides), (*besides, *chosen)):
            if attack_options(texts, norm=config.norm) == wanted:
                yield "attacks", list(texts)
                return
    for name, value in wanted.items():
        if value and name != "checks":
            yield name, list(value)


def _fraction(value: float) -> str:
    """``8/255`` where that is the number, else all its digits."""
    over = f"{round(value * 255, 6):g}"
    same = float(Fraction(over) / 255) == value
    return min([repr(value), f"{over}/255"] if same else [repr(value)], key=len)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):  # as JSON, but for the one character that TOML escapes and JSON does not
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
