"""Our attacks under the test suites of other libraries: their assertions, our attacks behind their names.

    python benchmarks/peers/suites.py --sources DIR [--only NAME ...]

Writes benchmarks/peers/suites.md. DIR has checkouts named adversarial-library, foolbox, cleverhans and
adversarial-attacks-pytorch; their test files are read when this runs, and nothing of them is kept here. In
place of each library stand names that call ours (benchmarks/peers/suite_shims.py). foolbox's suite needs
foolbox without its attacks, which `benchmarks/peers/league.sh` installs.
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

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).with_suffix(".md")


@dataclass(frozen=True)
class Suite:
    """A published test file.

    Attributes:
        folder, file: where it is in ``--sources``.
        arguments: of pytest.
        differs: parts of a test's name -> why it can't pass: another convention, not a fault of ours.
    """

    name: str
    folder: str
    file: str
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
SUITES = (
    Suite("adversarial-library", "adversarial-library", "tests/test_attacks.py"),
    Suite(
        "foolbox",
        "foolbox",
        "tests/test_attacks.py",
        ("--backend", "pytorch", "--skipslow", "-k", "pytorch_simple_model_default and not flip"),
    ),
    Suite(
        "foolbox, FMN",
        "foolbox",
        "tests/test_fast_minimum_norm_attack.py",
        ("--backend", "pytorch", "--skipslow", "-k", "pytorch_simple_model_default and not flip"),
        (("L0FMNAttack", STARTED),),
    ),
    Suite(
        "cleverhans",
        "cleverhans",
        "cleverhans/torch/tests/test_attacks.py",
        ("--import-mode=importlib",),
        CLEVERHANS,
    ),
    Suite("torchattacks", "adversarial-attacks-pytorch", "code_coverage/test_atks.py"),
)


class Recorder:
    """A plugin of pytest that keeps what became of each test."""

    def __init__(self) -> None:
        self.results: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            said = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr or "")
            self.results[report.nodeid.partition("::")[2]] = report.outcome, said.strip()[-200:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own
    given = parser.parse_args()
    if given.one:
        _run_here(next(suite for suite in SUITES if suite.name == given.one), given.sources.resolve())
        return
    rows, reasons, failures = [], [], []
    for suite in SUITES:
        if given.only and suite.name not in given.only:
            continue
        command = [sys.executable, __file__, "--sources", str(given.sources), "--one", suite.name]
        said = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env=_environment(), check=False
        )
        try:
            results = json.loads(said.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            sys.exit(f"{suite.name}: {said.stdout[-2000:]}{said.stderr[-2000:]}")
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
    OUT.write_text(_page(rows, reasons, failures))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _run_here(suite: Suite, sources: Path) -> None:
    import pytest

    from benchmarks.peers import suite_shims

    suite_shims.install(suite.name.partition(",")[0], sources / suite.folder)
    recorder, file = Recorder(), sources / suite.folder / suite.file
    os.chdir(tempfile.mkdtemp())
    pytest.main(
        [
            str(file),
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            f"--rootdir={file.parent}",
            *suite.arguments,
        ],
        plugins=[recorder],
    )
    print("\n" + json.dumps(recorder.results))


def _page(
    rows: list[tuple[str, Counter[str]]], reasons: list[tuple[str, str, str]], failures: list[str]
) -> str:
    lines = ["# Our attacks under other libraries' test suites\n"]
    lines.append(
        "`benchmarks/peers/suites.py` runs their assertions on our attacks, at their numbers of steps. "
        "Suites of theirs that are\nmissing here were not run to the end.\n"
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
