"""Certified and attacked accuracy of a network with certified training, side by side, on MNIST's test images.

    python benchmarks/peers/certified_mnist.py --shared DIR  prints the table (8 minutes on one core)
    python benchmarks/peers/certified_mnist.py --shared DIR --write    and puts it into docs/certification.md

DIR has `checkpoints/kw_mnist.pth`, trained by Wong and Kolter (arXiv 1711.00851) for linf 0.1, and
`data/mnist`.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.errors.coverage import write
from robustbench_coded.evaluation.options.config import EvalConfig, attack_options
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.judge.run import load_run

EPS, ATTACKS = 0.1, ("pgd-100", "apgd-ce-100")
PAGE = Path(__file__).parents[2] / "docs" / "certification.md"


def lines(shared: Path, limit: int) -> Iterator[str]:
    """Markdown, one line of figures."""
    yield "| images | clean | certified | ensemble | unknown | CPU time |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        config = EvalConfig(
            checkpoints=(("kw_mnist", str(shared / "checkpoints" / "kw_mnist.pth")),),
            normalize="none",
            data="mnist",
            data_dir=str(shared / "data" / "mnist"),
            limit=limit,
            eps=(EPS,),
            certify=True,
            threads=1,
            out=Path(folder) / "run",
            **attack_options(ATTACKS),
        )
        run = load_run(evaluate(config))
        clean = next(row.accuracy for row in run.rows if row.case.attack == "clean")
        (found,) = run.certified
        seconds = time.process_time() - started
    figures = found.certified
    assert figures is not None and found.ensemble is not None
    assert figures.estimate <= found.ensemble.high, "a bound above what attacks leave"
    share, interval = f"{figures.estimate:.1%}", f"[{100 * figures.low:.1f}, {100 * figures.high:.1f}]"
    yield (
        f"| {found.examples:,} | {clean:.1%} | {share} {interval} "
        f"| {found.ensemble.estimate:.1%} [at most {found.ensemble.high:.1%}] | {found.unknown:.1%} "
        f"| {seconds:.0f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder with checkpoints and data")
    parser.add_argument("--limit", type=int, default=10_000, help="images")
    parser.add_argument("--write", action="store_true", help="put the table into docs/certification.md")
    options = parser.parse_args()
    table = "\n".join(lines(options.shared, options.limit))
    print(table)
    if options.write:
        write("mnist", table, PAGE)


if __name__ == "__main__":
    main()
