"""Options that are wrong whatever is loaded: what --claim, --inputs and --until may ask for, and
everything else.
"""

import importlib.util
from collections.abc import Iterable, Sequence

from attacks.adapters import plugin
from attacks.adapters.third_party import installed
from attacks.attack import Package
from attacks.naming import read_attack, refuse_norm
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError, where_raised
from robustbench_coded.evaluation.options import option
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.installation import install_line
from robustbench_coded.schema.case import INPUTS, RANDOMNESS, ThreatModel, setting_of_claim

_OF_CLAIM = ("claim_threat", "claim_eps", "claim_votes", "claim_attack")


def check_claim(config: EvalConfig) -> None:
    """Refuses what a claim cannot be about.

    Raises:
        InputError: the first of them.
    """
    threat, _ = setting_of_claim(config.claim_threat, config.claim_eps, config.inputs, ())
    try:
        known = ThreatModel.parse(threat).draw_known
    except ValueError:
        raise InputError(
            f"--claim-threat {threat} is no threat model; write one of {', '.join(INPUTS)}, a slash, and "
            f"{' or '.join(RANDOMNESS)}: batch/unknown"
        ) from None
    if config.claim_votes is not None:
        if known:
            raise InputError(f"--claim-votes: {threat} has one draw, which is known, and no majority")
        if config.claim_votes > config.draws:
            raise InputError(
                f"--claim-votes {config.claim_votes} needs as many scoring draws; add --draws "
                f"{config.claim_votes}"
            )
    if config.eps is not None and config.claim_eps is not None:
        check_claimed_eps(config.claim_eps, config.eps)


def check_claimed_eps(claimed: float, eps: Sequence[float]) -> None:
    """Raises InputError for a claim about a radius that is not evaluated."""
    if claimed not in eps:
        known = ", ".join(f"{radius:g}" for radius in eps)
        raise InputError(f"--claim-eps {claimed:g} is not among --eps {known}; add it there")


def check_inputs(requested: Iterable[str], eps: Iterable[float], *, persistent: bool = False) -> None:
    """Raises InputError for a word that ``--inputs`` does not know, or that makes no sense at eps 0 or, of
    victims, where batches follow one another.
    """
    for inputs in requested:
        try:
            threat = ThreatModel(inputs, "unknown")
        except ValueError:
            raise InputError(f"--inputs {inputs!r} is not known; choose from {', '.join(INPUTS)}") from None
        if persistent and threat.one_victim:
            raise InputError(f"--inputs {inputs} draws each victim's batch at random; leave --state out")
        if threat.free and 0.0 in eps:
            raise InputError("--eps 0 leaves a co-batch attacker's victim where it is; give an eps above 0")


def check_until(config: EvalConfig) -> None:
    """Refuses options beside which nothing can be decided along the way.

    Raises:
        InputError: the first of them.
    """
    if config.all:
        raise InputError("--until runs what may change a verdict and --all everything; leave one of them out")


def check_pixels(config: EvalConfig) -> None:
    """Refuses what is no number of pixels.

    Raises:
        InputError: the first of them.
    """
    for size in config.eps or ():
        if size < 1 or size % 1:
            raise InputError(f"--norm l0 counts pixels; --eps {size:g} is no whole number from 1 on")
    if config.eps_space != "pixel":
        raise InputError("--norm l0 counts pixels, whatever space they are in; leave --eps-space out")


def check_effect(config: EvalConfig, *, data: bool) -> None:
    """Raises InputError for options of files where networks, or also ``data``, are in memory alone."""
    inside = "; put it inside: nn.Sequential(torchvision.transforms.Normalize(mean, std), model)"
    unused = () if config.checkpoints else ("normalize", "arch", "guess")
    for name in (*unused, *(("data_dir",) if data else ())):
        if getattr(config, name):
            mend = inside if name == "normalize" else "; leave it out"
            raise InputError(f"--{name.replace('_', '-')} has no effect on what is in memory{mend}")


def check_options(config: EvalConfig) -> None:
    """Refuses options that no checkpoint or data could make good.

    Raises:
        InputError: the first of them.
    """
    option.check_values(config)
    if config.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError(f"--engine ray: Ray is not installed; {install_line('ray')}")
    if config.inputs != ("batch",):
        check_inputs(config.inputs, config.eps or (), persistent=config.batches_kept > 0)
    if config.claim is not None:
        check_claim(config)
    for field in _OF_CLAIM if config.claim is None else ():
        if getattr(config, field) is not None:
            raise InputError(f"--{field.replace('_', '-')} needs a claim to be about; add --claim 72%")
    if config.until is not None:
        check_until(config)
    if config.state != "persistent" and config.sequence_length != EvalConfig.sequence_length:
        raise InputError(f"--sequence-length {config.sequence_length} has no effect; add --state persistent")
    for size in config.eps or ():
        if config.norm == "linf" and config.eps_space == "pixel" and size > 1:
            raise InputError(f"--eps {size:g} is larger than the whole range of pixels; write 8/255, not 8")
    if config.norm == "l0":
        check_pixels(config)
    for attack in map(read_attack, config.attacks):
        try:
            refuse_norm(attack, config.norm)
        except ValueError as error:
            raise InputError(f"--norm {config.norm}: {error}") from error
        if not isinstance(attack, Package):
            continue
        if attack.package == "plugin":
            try:
                plugin.load(attack)
            except ValueError as error:
                raise InputError(f"--attacks {error}{where_raised(error.__cause__)}") from error
        if not installed(attack.package):
            raise InputError(f"{attack} needs its package; {install_line('peers')}")
        if config.eps_space != "pixel":
            raise InputError(f"{attack} knows eps in pixel units alone; leave --eps-space out or the attack")
    for spec in config.defences:
        for k in config.batch_size:
            parse_defence(spec).resolve_n(k)
