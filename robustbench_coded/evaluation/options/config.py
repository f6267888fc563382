"""Everything that decides an evaluation, as plain data."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

AWARE_ATTACKS = 2  # separate attacks that each know one scoring draw
VICTIMS = 64
LAST_BATCH_RULES = ("pad", "shrink", "drop")
IMAGES_PER_UNIT = 50_000  # image gradients in one unit of work: seconds on a GPU, a minute on a laptop


@dataclass(frozen=True)
class EvalConfig:
    """The options of one evaluation.

    Attributes:
        checkpoints: (name, path) of each checkpoint.
        arch: architecture, or ``package.module:function``; None finds it from the weights.
        normalize: normalisation as text; None takes the stored one or guesses.
        data: data set as text (``digits``, ``cifar10``, ``npz:FILE`` ...), or ``auto``.
        data_dir: where data sets are looked for.
        limit: the first ``limit`` examples; None takes all.
        batch_sizes: K, one or several.
        standard: whether standard inference is evaluated, too.
        defences: defence specifications as text (``rci:N=190``, ``coded:N=128``, ``package.module:build``).
        match_clean: the defence among them whose clean accuracy the baselines are to match; None for none.
        attacks: names of attacks, presets expanded.
        victim_attacks: attacks that are also run against one victim among clean co-batched inputs.
        relaxed_attacks: those of ``attacks`` that run only where an operator hides the gradient.
        norm, eps, eps_space: the budget; several eps are a security curve, None is the data set's default.
        budget: images forwarded and differentiated for each scored example, N/K and co-batched inputs
            included, before which every attack stops; None for as many as its name says.
        inputs: which inputs of a batch are the attacker's.
        draws, selection_draws: for scoring, and for choosing between attacks.
        aware_attacks: separate attacks under known randomness, each for one scoring draw.
        victims: size of the sample of victims.
        replicates: partitions of the data and attack seeds.
        queries: tries M of the repeated-query accuracy; None leaves it out.
        last_batch: ``pad``, ``shrink`` or ``drop``.
        drop: stop on examples already misclassified where that changes nothing but the time.
        attack_precision: of the attacks' gradients: ``float32``, ``bfloat16`` or ``auto``.
        device: ``cpu``, ``cuda`` ...; None takes CUDA where there is one.
        threads: CPU threads of each worker; None takes what the run folder began with, else OMP_NUM_THREADS,
            else cores / workers.
        engine: ``local`` or ``ray``.
        workers: processes that compute units; None computes in this one, or in one for each of several GPUs.
        address: of a running Ray cluster; None starts Ray on this machine.
        unit_timeout: seconds after which a unit counts as hanging; None takes an hour, or 20 times its
            forecast where that is more.
        time: seconds that the evaluation may take: attacks and examples are chosen to fit; None for no limit.
        peer_raw: let third-party attacks choose their own batches.
        checks: run the attacks of the checks, too.
    """

    checkpoints: tuple[tuple[str, str], ...]
    arch: str | None = None
    normalize: str | None = None
    data: str = "auto"
    data_dir: str | None = None
    limit: int | None = None
    batch_sizes: tuple[int, ...] = (128,)
    standard: bool = True
    defences: tuple[str, ...] = ()
    match_clean: str | None = None
    attacks: tuple[str, ...] = ()
    victim_attacks: tuple[str, ...] = ()
    relaxed_attacks: tuple[str, ...] = ()
    norm: str = "linf"
    eps: tuple[float, ...] | None = None
    eps_space: str = "pixel"
    budget: int | None = None
    inputs: tuple[str, ...] = ("batch",)
    draws: int = 10
    selection_draws: int = 10
    aware_attacks: int = AWARE_ATTACKS
    victims: int = VICTIMS
    seed: int = 0
    replicates: int = 1
    queries: int | None = None
    last_batch: str = "pad"
    drop: bool = True
    attack_precision: str = "float32"
    device: str | None = None
    threads: int | None = None
    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    unit_timeout: float | None = None
    time: float | None = None
    checks: bool = False
    peer_raw: bool = False
    save_adversarials: bool = False
    claim: float | None = None
    claim_attack: str | None = None
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    command: tuple[str, ...] = field(default=(), compare=False)

    @property
    def keeps_adversarials(self) -> bool:
        """Whether perturbed inputs are stored; a claim that is refuted needs them as evidence."""
        return self.save_adversarials or self.claim is not None

    def as_data(self) -> dict:
        """Plain JSON data, for run.json."""
        data = asdict(self)
        data["out"] = None if self.out is None else str(self.out)
        return data
