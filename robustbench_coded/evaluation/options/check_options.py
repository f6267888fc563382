"""Options that are wrong whatever is loaded."""

from attacks.adapters import plugin
from attacks.adapters.third_party import installed
from attacks.catalogue import refuse_norm
from attacks.naming import parse
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError, where_raised
from robustbench_coded.evaluation.options.claim import check_claim
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.inputs import check_inputs
from robustbench_coded.evaluation.options.matching import check_matching, plain_defences
from robustbench_coded.evaluation.options.option import check_values
from robustbench_coded.evaluation.options.until import check_until
from robustbench_coded.evaluation.options.workers import check_engine_options


def check_options(config: EvalConfig) -> None:
    """Refuses options that no checkpoint or data could make good.

    Raises:
        InputError: the first of them.
    """
    check_values(config)
    check_engine_options(config)
    check_inputs(config.inputs, config.eps or ())
    check_claim(config)
    check_until(config)
    if config.resume and config.overwrite:
        raise InputError("--resume goes on with a run and --overwrite deletes it; leave one of them out")
    if config.submissions is not None and config.submissions > config.draws:
        count = config.submissions
        raise InputError(f"--submissions {count} needs as many scoring draws; add --draws {count}")
    for size in config.eps or ():
        if config.norm == "linf" and config.eps_space == "pixel" and size > 1:
            raise InputError(f"--eps {size:g} is larger than the whole range of pixels; write 8/255, not 8")
    for name in map(parse, config.attacks):
        try:
            refuse_norm(name, config.norm)
        except ValueError as error:
            raise InputError(f"--norm {config.norm}: {error}") from error
        if name.third_party is None:
            continue
        if name.third_party == "torchattacks" and config.norm == "l1":
            raise InputError(f"--norm l1: {name.text} knows linf and l2; autoattack: knows l1, too")
        if name.third_party == "plugin":
            try:
                plugin.load(name)
            except ValueError as error:
                raise InputError(f"--attacks {error}{where_raised(error.__cause__)}") from error
        if not installed(name.third_party):
            raise InputError(f"{name.text} needs its package; install it with pip install 'csrobust[peers]'")
        if config.eps_space != "pixel":
            raise InputError(
                f"{name.text} knows eps in pixel units alone; leave --eps-space out or the attack"
            )
    for spec in plain_defences(config):
        parse_defence(spec)
    check_matching(config)
