"""``csrobust sweep``: one defence over batch sizes, Table 10 of arXiv 2510.00253."""

from typing import Any

from robustbench_coded.cli.eval_options import SHARED, attacks_option, config_from, takes
from robustbench_coded.cli.run import run_evaluation
from robustbench_coded.errors import InputError

# The attacks of Table 10, and the one that shows what they miss.
SWEEP_ATTACKS = ["fgsm,pgd-10,transfer-pgd-20"]


@takes(
    batch_size=(SHARED["batch_size"][0], "8,16,32,64,128"),
    attacks=attacks_option(SWEEP_ATTACKS[0], SWEEP_ATTACKS),
)
def sweep_command(*, quiet: bool, as_json: bool, **options: Any) -> int:
    """Evaluate a batch-dependent defence at several batch sizes."""
    if not options["rci"] and not options["coded"] and not options["defence"]:
        raise InputError(
            "nothing to sweep; name a defence whose answers depend on the batch, for example --rci N=1.5K"
        )
    return run_evaluation(config_from(**options), quiet=quiet, as_json=as_json)
