"""Our attacks under the test suites of other libraries: their assertions, our attacks behind their names.

    python benchmarks/peers/suites.py --sources DIR --runs DIR [--shared DIR] [--only NAME ...]

Writes benchmarks/peers/suites.md. DIR has checkouts, by the names of their repositories; their test files are
read when this runs, and nothing of them is kept here. In place of each library stand names that call ours
(benchmarks/peers/suite_shims*.py). foolbox's suite needs foolbox without its attacks, ART's what its own code
imports, statsmodels' statsmodels: have them on PYTHONPATH.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.league_networks import ROOT, SHARED
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).with_suffix(".md")


@dataclass(frozen=True)
class Suite:
    """Published test files.

    Attributes:
        folder, files: where they are in ``--sources``.
        arguments: of pytest.
        differs: parts of a test's name -> why it can't pass: another convention, not a fault of ours.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    differs: tuple[tuple[str, str], ...] = ()


STARTED = "theirs is handed a wrong answer to begin with; in 20 steps from the clean image ours gets less far"
PGD_IN_L1 = "theirs refuses PGD in l1 by NotImplementedError; ours has it"
SPARSE = "their sparse steps move one value, or a share that is stated; ours chooses the share itself"
CLEVERHANS = (
    ("CarliniWagnerL2::test_high_confidence", "ours stops at the boundary; it has no confidence beyond"),
    ("SPSA::test_adv_example_success_rate_l1", PGD_IN_L1.replace("PGD", "SPSA")),
    ("SPSA::test_targeted_adv_example_success_rate_l1", PGD_IN_L1.replace("PGD", "SPSA")),
    *(
        (f"ProjectedGradientMethod::test_{test}", PGD_IN_L1)
        for test in (
            "adv_example_success_rate_l1",
            "targeted_adv_example_success_rate_l1",
            "clips",
            "do_not_reach_lp_boundary",
            "eps_equals_zero",
            "eps_iter_equals_zero",
            "invalid_clips",
            "invalid_eps",
            "invalid_eps_iter",
            "invalid_input",
        )
    ),
    *(
        (f"SparseL1Descent::test_{test}", SPARSE)
        for test in ("grad_clip", "grad_sparsity_checks", "sparsity")
    ),
)
ART_FILES = (
    *(
        f"tests/attacks/evasion/test_{name}.py"
        for name in (
            "fast_gradient",
            "momentum_iterative_method",
            "auto_projected_gradient_descent",
            "auto_conjugate_gradient",
            "square_attack",
            "auto_attack",
            "sign_opt",
        )
    ),
    *(
        f"tests/attacks/test_{name}.py"
        for name in (
            "iterative_method",
            "projected_gradient_descent",
            "hop_skip_jump",
            "deepfool",
            "newtonfool",
            "elastic_net",
            "pixel_attack",
            "saliency_map",
            "zoo",
            "simba",
        )
    ),
)
# Not what they check of arguments and of estimators, which is theirs here too, and not other frameworks.
ART_WANTED = "not check_params and not type_check and not keras and not tensorflow and not scikitlearn"
DIGITS = "the digits of their own walk"
ART = (
    ("test_classifier_defended", "fails in theirs: its preprocessing answers in float64 under NumPy 2"),
    ("test_minimal_perturbations", DIGITS),
    ("test_non_classification", "an object detector"),
    ("momentum_iterative_method", "the mean of MNIST's training images; only its test images are here"),
    ("square_attack::test_generate[2]", "the largest change of theirs after 5 queries"),
    ("test_generate_attacks_and_targeted", "the mean of what theirs adds, to 0.0075"),
    ("test_generate_parallel", "theirs returns nearer points in parallel; ours has no such mode"),
    ("test_5_pytorch_resume", "theirs goes on from a point that it is given"),
    ("ElasticNet::test_", DIGITS),
)
ROBUSTBENCH = (
    ("test_benchmark_train", "theirs warns of a model in training mode; ours asks it in evaluation mode"),
)
CONFSEQ_FILES = tuple(
    f"test/python_tests/test_{name}.py" for name in ("betting", "conjmix_bounded", "predmix")
)
CONFSEQ_REFERENCE = "test/uniform_boundaries_unittest.cpp"
# Not their other kinds of bets and sequences, nor finite populations.
CONFSEQ_WANTED = (
    "not WoR and not convex_comb and not diversified and not cs_from_martingale and not mu_t and not logical "
    "and not ci_seq and not lambda and not predmix_cs_power"
)
CONFSEQ = (
    ("test_lower_and_two_sided", "exact equality of sums in two orders; ours agree but for last bits"),
)
SPLINES = tuple((f"test_{test}", "ours has no derivatives") for test in ("interp", "example2"))
SUITES = (
    Suite("adversarial-library", "adversarial-library", ("tests/test_attacks.py",)),
    Suite(
        "foolbox",
        "foolbox",
        ("tests/test_attacks.py",),
        ("--backend", "pytorch", "--skipslow", "-k", "pytorch_simple_model_default and not flip"),
    ),
    Suite(
        "foolbox, FMN",
        "foolbox",
        ("tests/test_fast_minimum_norm_attack.py",),
        ("--backend", "pytorch", "--skipslow", "-k", "pytorch_simple_model_default and not flip"),
        (("L0FMNAttack", STARTED),),
    ),
    Suite(
        "cleverhans",
        "cleverhans",
        ("cleverhans/torch/tests/test_attacks.py",),
        ("--import-mode=importlib",),
        CLEVERHANS,
    ),
    Suite("torchattacks", "adversarial-attacks-pytorch", ("code_coverage/test_atks.py",)),
    Suite(
        "ART", "adversarial-robustness-toolbox", ART_FILES, ("--framework", "pytorch", "-k", ART_WANTED), ART
    ),
    Suite("RobustBench", "robustbench", ("tests/test_eval.py",), (), ROBUSTBENCH),
    Suite("confseq", "confseq", CONFSEQ_FILES, ("-k", CONFSEQ_WANTED), CONFSEQ),
    Suite(
        "statsmodels",
        "statsmodels",
        ("statsmodels/stats/tests/test_proportion.py",),
        ("-k", "beta", "--import-mode=importlib"),
    ),
    Suite("torchcubicspline", "torchcubicspline", ("test/test_interpolate.py",), (), SPLINES),
)


class Recorder:
    """A plugin of pytest that keeps what became of each test."""

    def __init__(self, several: bool) -> None:
        self.several = several  # files
        self.results: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            said = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr or "")
            file, _, test = report.nodeid.partition("::")
            name = f"{Path(file).stem.removeprefix('test_')}::{test}" if self.several else test
            if self.results.get(name, ("passed",))[0] == "passed":
                self.results[name] = report.outcome, said.strip()[-200:]

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """ART's tests that hold for every framework run under TensorFlow alone; here under torch."""
        for item in items:
            item.own_markers = [mark for mark in item.own_markers if mark.name != "framework_agnostic"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=SHARED, help="Folder of MNIST.")
    parser.add_argument("--runs", type=Path, required=True, help="Folder of what has been measured.")
    parser.add_argument(
        "--only", nargs="*", help="Suites to run once more; the others are as they were kept."
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own
    given = parser.parse_args()
    if given.one:
        suite = next(suite for suite in SUITES if suite.name == given.one)
        _run_here(suite, given.sources.resolve(), given.shared.resolve())
        return
    given.runs.mkdir(parents=True, exist_ok=True)
    rows, reasons, failures = [], [], []
    for suite in SUITES:
        kept = given.runs / f"{suite.name}.json"
        if not kept.exists() or suite.name in (given.only or ()):
            places = (
                "--sources",
                str(given.sources),
                "--shared",
                str(given.shared),
                "--runs",
                str(given.runs),
            )
            command = [sys.executable, __file__, *places, "--one", suite.name]
            said = subprocess.run(
                command, capture_output=True, text=True, cwd=ROOT, env=_environment(), check=False
            )
            if not said.stdout.rpartition("\n{")[2].endswith("}\n"):
                sys.exit(f"{suite.name}: {said.stdout[-2000:]}{said.stderr[-2000:]}")
            write_text(kept, said.stdout.splitlines()[-1])
        results = json.loads(kept.read_text())
        counts: Counter[str] = Counter()
        for test, (outcome, why) in results.items():
            reason = next((text for part, text in suite.differs if part in test), "")
            kind = outcome if outcome != "failed" or not reason else "differs"
            counts[kind] += 1
            if kind == "failed":
                failures.append(f"- {suite.name} `{test}`: {why.splitlines()[-1] if why else ''}")
            elif kind == "differs":
                reasons.append((suite.name, test.partition("[")[0], reason))
            elif kind == "skipped":
                reasons.append((suite.name, why.removeprefix("Skipped: "), "not ours"))
        print(suite.name, dict(counts), flush=True)
        rows.append((suite.name, counts))
    print(*failures, sep="\n")
    write_text(OUT, _page(rows, reasons, failures))


def _environment() -> dict[str, str]:
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _install_shims(library: str, folder: Path, shared: Path) -> None:
    """Puts our names in the library's place, before its tests are imported."""
    from benchmarks.peers import suite_shims, suite_shims_art
    from benchmarks.peers import suite_shims_statistics as statistics

    {
        "adversarial-library": suite_shims.adversarial_library,
        "foolbox": suite_shims.foolbox,
        "cleverhans": suite_shims.cleverhans,
        "torchattacks": suite_shims.torchattacks,
        "ART": lambda _: suite_shims_art.install(folder, shared),
        "RobustBench": lambda _: statistics.robustbench(suite_shims.fake_module, folder),
        "confseq": lambda _: statistics.confseq(suite_shims.fake_module),
        "statsmodels": lambda _: statistics.statsmodels(folder),
        "torchcubicspline": lambda _: statistics.torchcubicspline(suite_shims.fake_module),
    }[library](folder)


def _run_here(suite: Suite, sources: Path, shared: Path) -> None:
    import pytest

    folder, recorder = sources / suite.folder, Recorder(len(suite.files) > 1)
    _install_shims(suite.name.partition(",")[0], folder, shared)
    os.chdir(tempfile.mkdtemp())
    common = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", f"--rootdir={folder}")
    pytest.main(
        [*(str(folder / file) for file in suite.files), *common, *suite.arguments], plugins=[recorder]
    )
    if suite.name == "confseq":
        from benchmarks.peers.suite_shims_statistics import confseq_reference

        recorder.results |= confseq_reference(folder / CONFSEQ_REFERENCE)
    print("\n" + json.dumps(recorder.results))


def _page(
    rows: list[tuple[str, Counter[str]]], reasons: list[tuple[str, str, str]], failures: list[str]
) -> str:
    lines = ["# Our attacks under other libraries' test suites\n"]
    lines.append(
        "`benchmarks/peers/suites.py` runs their assertions on our attacks, at their numbers of steps. "
        "AutoAttack and\nimagecorruptions have no tests; RobustBench's others load networks that cannot be "
        "had here. Of ART those run\nof the attacks that ours has, under torch, without their checks of "
        "arguments; of confseq, statsmodels and\ntorchcubicspline those of the intervals and splines that "
        "ours has.\n"
    )
    lines.append(
        "| suite | passed | another convention | not ours | failed |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for name, counts in rows:
        kinds = ("passed", "differs", "skipped", "failed")
        lines.append(f"| {name} | {' | '.join(str(counts[kind]) for kind in kinds)} |")
    lines.append("\n| suite | tests | what differs, or is not tried | count |\n| --- | --- | --- | ---: |")
    for (name, test, reason), count in Counter(reasons).items():
        lines.append(f"| {name} | {test} | {reason} | {count} |")
    return "\n".join(lines) + ("\n\n## Failed\n\n" + "\n".join(failures) if failures else "") + "\n"


if __name__ == "__main__":
    main()
