"""What ``--until`` cannot be combined with."""

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig


def check_until(config: EvalConfig) -> None:
    """Refuses options beside which nothing can be decided along the way.

    Raises:
        InputError: the first of them.
    """
    if config.until is None:
        return
    if config.until == "claim" and config.claim is None:
        raise InputError("--until claim needs a claim; add --claim 72%, or write --until settled")
    if config.all:
        raise InputError("--until runs what may change a verdict and --all everything; leave one of them out")
    if config.replicates > 1:
        raise InputError("--until stops after the examples of one partition; leave --replicates out")
    if any(inputs.startswith("collateral") for inputs in config.inputs):
        raise InputError("--until goes by verdicts, and collateral damage has none; leave one of them out")
