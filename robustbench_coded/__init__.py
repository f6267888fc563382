"""csrobust: adversarial robustness evaluation of randomised and batch-dependent defences.

    from robustbench_coded import evaluate, load_run

    run = evaluate(model, (x, y), defences=["rci:N=1.5K"])
    run.summary                               # a pandas frame, a line per attack
    load_run("runs/mine").judgements       # verdicts and their checks
    attack(model, x, y, "pgd-10", eps=8/255)  # perturbed inputs, like x

The distribution, the command and the project are called ``csrobust``; it brings two packages: this one, and
``attacks``, which works on tensors alone and can be used without the rest (docs/install.md). What can be
imported from here is public (``api.py``), everything else is not.

It is imported when it is first used: ``csrobust --help`` needs neither torch nor pandas.
"""

from typing import TYPE_CHECKING, Any

from robustbench_coded.installation import require_own_attacks
from robustbench_coded.version import __version__

if TYPE_CHECKING:
    from robustbench_coded.api import *  # noqa: F403

PUBLIC = (
    "RCI", "Defence", "FreshDraws", "IncompleteRun", "InputError", "Listener", "PerturbationBudget", "Run",
    "Solver", "Target", "Transfer", "assert_accuracy_under_attack", "attack", "attack_batches", "compare",
    "evaluate", "load_run", "recompute", "write_reports",
)  # fmt: skip
__all__ = ["__version__", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_own_attacks()
    from robustbench_coded import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
