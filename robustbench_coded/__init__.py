"""csrobust: adversarial robustness evaluation of randomised and batch-dependent defences.

    from robustbench_coded import evaluate, load_run

    run = evaluate(model, (x, y), defences=["rci:N=1.5K"])
    run.summary                               # a pandas frame, a line per attack
    load_run("reports/mine").judgements       # verdicts and their checks
    attack(model, x, y, "pgd-10", eps=8/255)  # perturbed inputs, like x

The distribution, the command and the project are called ``csrobust``; it brings two packages: this one, and
``attacks``, which works on tensors alone and can be used without the rest (docs/install.md).

What is named here is imported when it is first used: ``csrobust --help`` needs neither torch nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from robustbench_coded.installation import require_own_attacks
from robustbench_coded.version import __version__

if TYPE_CHECKING:
    from robustbench_coded.errors import InputError
    from robustbench_coded.evaluation.execution.perturb import attack
    from robustbench_coded.evaluation.session.from_python import evaluate
    from robustbench_coded.judge.run import Run, load_run
    from robustbench_coded.reports.compare.comparison import compare
    from robustbench_coded.reports.write import write_reports

__all__ = ["InputError", "Run", "__version__", "attack", "compare", "evaluate", "load_run", "write_reports"]

_HOMES = {
    "InputError": "robustbench_coded.errors",
    "Run": "robustbench_coded.judge.run",
    "attack": "robustbench_coded.evaluation.execution.perturb",
    "compare": "robustbench_coded.reports.compare.comparison",
    "evaluate": "robustbench_coded.evaluation.session.from_python",
    "load_run": "robustbench_coded.judge.run",
    "write_reports": "robustbench_coded.reports.write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_own_attacks()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
