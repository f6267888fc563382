"""Options that are wrong whatever is loaded: rules between them, and what attacks and defences need."""

import importlib.util
from collections.abc import Callable, Sequence

from attacks.adapters import plugin
from attacks.adapters.third_party import installed
from attacks.attack import AnyAttack, Package, read_attack, refuse_norm
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError, where_raised
from robustbench_coded.evaluation.options.config import EvalConfig, options
from robustbench_coded.installation import install_line
from robustbench_coded.options.option import check_values
from robustbench_coded.schema.case import INPUTS, ThreatModel


def _of_threats(o: EvalConfig, wrong: Callable[[ThreatModel], bool]) -> list[str]:
    return [inputs for inputs in o.inputs if wrong(ThreatModel(inputs, "unknown"))]


def _radii(o: EvalConfig, norm: str, wrong: Callable[[float], object]) -> list[float]:
    return [eps for eps in o.eps or () if o.norm == norm and o.eps_space == "pixel" and wrong(eps)]


def _votes(o: EvalConfig) -> int:
    return 1 if o.claim is None else o.claim.votes


_EMPTY = "--{0} has no value; give one or more, or leave it out"
# The values that are wrong, and the sentence for the first of them; in this order.
RULES: tuple[tuple[Callable[[EvalConfig], Sequence[object]], str], ...] = (
    (lambda o: ["eps"] if o.eps == () else [], _EMPTY),
    (lambda o: [] if o.batch_size else ["batch-size"], _EMPTY),
    (lambda o: [] if o.inputs else ["inputs"], _EMPTY),
    (
        lambda o: [o.engine] if o.engine == "ray" and importlib.util.find_spec("ray") is None else [],
        f"--engine ray: Ray is not installed; {install_line('ray')}",
    ),
    (
        lambda o: [inputs for inputs in o.inputs if inputs not in INPUTS],
        f"--inputs {{0!r}} is not known; choose from {', '.join(INPUTS)}",
    ),
    (
        lambda o: _of_threats(o, lambda threat: o.batches_kept > 0 and threat.one_victim),
        "--inputs {0} draws each victim's batch at random; leave --state out",
    ),
    (
        lambda o: _of_threats(o, lambda threat: 0.0 in (o.eps or ()) and threat.free),
        "--eps 0 leaves a co-batch attacker's victim where it is; give an eps above 0",
    ),
    (
        lambda o: [o.claim.threat] if o.claim and _votes(o) > 1 and "/known" in str(o.claim.threat) else [],
        "--claim votes: {0} has one draw, which is known, and no majority",
    ),
    (
        lambda o: [_votes(o)] if _votes(o) > o.draws else [],
        "--claim votes={0} needs as many scoring draws; add --draws {0}",
    ),
    (
        lambda o: ["--all"] if o.until is not None and o.all else [],
        "--until runs what may change a verdict and --all everything; leave one of them out",
    ),
    (
        lambda o: _radii(o, "linf", lambda eps: eps > 1),
        "--eps {0:g} is larger than the whole range of pixels; write 8/255, not 8",
    ),
    (
        lambda o: _radii(o, "l0", lambda eps: eps < 1 or eps % 1),
        "--norm l0 counts pixels; --eps {0:g} is no whole number from 1 on",
    ),
    (
        lambda o: [o.eps_space] if o.norm == "l0" and o.eps_space != "pixel" else [],
        "--norm l0 counts pixels, whatever space they are in; leave --eps-space out",
    ),
)


def check_options(config: EvalConfig) -> None:
    """Refuses options that no checkpoint or data could make good.

    Raises:
        InputError: the first of them.
    """
    check_values(options(), config)
    for wrong, sentence in RULES:
        for value in wrong(config):
            raise InputError(sentence.format(value))
    if config.eps is not None:
        check_claimed_eps(config, config.eps)
    for attack in map(read_attack, config.attack_names):
        _check_attack(attack, config)
    for spec in config.defences:
        for k in config.batch_size:
            parse_defence(spec).resolve_n(k)


def _check_attack(attack: AnyAttack, config: EvalConfig) -> None:
    try:
        refuse_norm(attack, config.norm)
    except ValueError as error:
        raise InputError(f"--norm {config.norm}: {error}") from error
    if not isinstance(attack, Package):
        return
    if attack.package == "plugin":
        try:
            plugin.load(attack)
        except ValueError as error:
            raise InputError(f"--attacks {error}{where_raised(error.__cause__)}") from error
    if not installed(attack.package):
        raise InputError(f"{attack} needs its package; {install_line('peers')}")
    if config.eps_space != "pixel":
        raise InputError(f"{attack} knows eps in pixel units alone; leave --eps-space out or the attack")


def check_claimed_eps(config: EvalConfig, eps: Sequence[float]) -> None:
    """Raises InputError for a claim about a radius that is not evaluated."""
    claimed = None if config.claim is None else config.claim.eps
    if claimed is not None and claimed not in eps:
        known = ", ".join(f"{radius:g}" for radius in eps)
        raise InputError(f"--claim eps={claimed:g} is not among --eps {known}; add it there")


def check_effect(config: EvalConfig, *, data: bool) -> None:
    """Raises InputError for options of files where networks, or also ``data``, are in memory alone."""
    inside = "; put it inside: nn.Sequential(torchvision.transforms.Normalize(mean, std), model)"
    unused = () if config.checkpoints else ("normalize", "arch")
    for name in (*unused, *(("data_dir",) if data else ())):
        if getattr(config, name):
            mend = inside if name == "normalize" else "; leave it out"
            raise InputError(f"--{name.replace('_', '-')} has no effect on what is in memory{mend}")
