"""The public interface: what users, and authors of defences and attacks, may rely on.

All of it can be imported from ``robustbench_coded`` itself. Everything else may change between versions.
"""

from attacks.estimators import FreshDraws, Transfer
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import Solver
from robustbench_coded.assertion import assert_accuracy_under_attack
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.rci import RCI
from robustbench_coded.defences.recompute import recompute
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.attack import attack, attack_batches
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.evaluation.session.from_python import evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.reports.compare.comparison import compare
from robustbench_coded.reports.write import write_reports
from robustbench_coded.run import Run, load_run

__all__ = [
    "RCI",
    "Defence",
    "FreshDraws",
    "IncompleteRun",
    "InputError",
    "Listener",
    "PerturbationBudget",
    "Run",
    "Solver",
    "Target",
    "Transfer",
    "assert_accuracy_under_attack",
    "attack",
    "attack_batches",
    "compare",
    "evaluate",
    "load_run",
    "recompute",
    "write_reports",
]
