"""Options that are wrong whatever is loaded."""

from attacks.adapters import plugin
from attacks.adapters.third_party import installed
from attacks.naming import parse
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import LAST_BATCH_RULES, EvalConfig
from robustbench_coded.evaluation.options.inputs import check_inputs
from robustbench_coded.evaluation.options.matching import check_matching, plain_defences
from robustbench_coded.evaluation.options.workers import check_engine_options

# More than anybody means: a slip of the keyboard that would take a machine's memory, or its next years.
MOST = {"draws": 10_000, "selection_draws": 10_000, "replicates": 1_000}
LARGEST_BATCH = 16_384


def check_options(config: EvalConfig) -> None:
    """Refuses options that no checkpoint or data could make good.

    Raises:
        InputError: the first of them.
    """
    if config.last_batch not in LAST_BATCH_RULES:
        raise InputError(
            f"--last-batch {config.last_batch!r} is not known; choose from {', '.join(LAST_BATCH_RULES)}"
        )
    if config.norm not in ("linf", "l2"):
        raise InputError(f"--norm {config.norm!r} is not known; choose linf or l2")
    if config.eps_space not in ("pixel", "normalized"):
        raise InputError(f"--eps-space {config.eps_space!r} is not known; choose pixel or normalized")
    if config.attack_precision not in ("float32", "bfloat16", "auto"):
        raise InputError(
            f"--attack-precision {config.attack_precision!r} is not known; choose float32, bfloat16 or auto"
        )
    for option, most in MOST.items():
        if (value := getattr(config, option)) > most:
            raise InputError(f"--{option.replace('_', '-')} {value} is too large; give {most:,} or fewer")
    for k in config.batch_sizes:
        if k > LARGEST_BATCH:
            raise InputError(
                f"--batch-size {k} is too large: a batch goes through the network as a whole; give "
                f"{LARGEST_BATCH:,} or fewer"
            )
    check_engine_options(config)
    check_inputs(config.inputs, config.eps or ())
    if config.budget is not None and config.budget < 1:
        raise InputError(
            f"--budget {config.budget} pays for no image; give a count of at least 2, or leave it out"
        )
    for size in config.eps or ():
        if config.norm == "linf" and config.eps_space == "pixel" and size > 1:
            raise InputError(f"--eps {size:g} is larger than the whole range of pixels; write 8/255, not 8")
    for name in map(parse, config.attacks):
        if name.third_party is None:
            continue
        if name.third_party == "plugin":
            try:
                plugin.load(name)
            except ValueError as error:
                raise InputError(f"--attacks {error}") from error
        if not installed(name.third_party):
            raise InputError(f"{name.text} needs its package; install it with pip install 'csrobust[peers]'")
        if config.eps_space != "pixel":
            raise InputError(
                f"{name.text} knows eps in pixel units alone; leave --eps-space out or the attack"
            )
    for spec in plain_defences(config):
        parse_defence(spec)
    check_matching(config)
