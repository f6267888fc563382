"""Images that gradient attacks fail on and a solver breaks: what `csrobust eval` finds of them.

    python benchmarks/peers/hard_images.py --shared DIR FOLDER        writes hard_images.md

DIR has `hard`: a network and 20 images that its authors' solver broke. Runs go into FOLDER, which a stopped
measurement goes on with.
"""

import argparse
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.errors.coverage import write
from benchmarks.smoke import smoke
from robustbench_coded.run import load_run
from robustbench_coded.runs.atomic import write_text

PAGE = Path(__file__).with_suffix(".md")
NAME, IMAGES, EPS = "mnist_cnn_a_adv", 20, 0.3
COMMANDS = {"plain": (), "aa": ("--attacks", "aa"), "full": ("--attacks", "full")}


def measured(folder: Path, shared: Path, how: str) -> dict[str, Any]:
    """One run of the command: which images stand, and seconds of processor time an image."""
    out = folder / f"{NAME}-{how}"
    seconds = out.with_name(f"{out.name}.seconds")
    if not seconds.exists():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        network, images = (str(shared / "hard" / f"{NAME}{suffix}") for suffix in (".model", ".npz"))
        stated = ["--ckpt", network, "--data", f"npz:{images}", "--normalize", "none", "--eps", str(EPS)]
        options = ["--threads", "1", "--quiet", "--out", str(out)]
        subprocess.run(["csrobust", "eval", *stated, *COMMANDS[how], *options], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        write_text(seconds, f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.1f}\n")
    run = load_run(out)
    facts = run.summary.to_dict("records")
    rows = [row for row in facts if row["eps"] == EPS and row["threat"] == "batch/unknown"]
    left = {row["attack"]: round(row["accuracy"] * IMAGES) for row in rows}
    own = [attack for attack in left if "-" in attack and not attack.startswith("from:")]
    alone = [attack for attack in own if left[attack] < IMAGES]
    return {"broken": IMAGES - left["ensemble"], "by": alone, "seconds": float(seconds.read_text()) / IMAGES}


def lines(folder: Path, shared: Path) -> Iterator[str]:
    """Markdown, a line for each command."""
    yield "| network | eps | broken in truth | command | broken | by | CPU seconds an image |"
    yield "| --- | ---: | ---: | --- | ---: | --- | ---: |"
    for how in COMMANDS:
        found = measured(folder, shared, how)
        by = ", ".join(f"`{attack}`" for attack in found["by"]) or "none"
        cells = (NAME, EPS, f"{IMAGES} of {IMAGES}", how, found["broken"], by, f"{found['seconds']:.1f}")
        yield f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder with hard")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    table = "\n".join(lines(options.folder, options.shared))
    print(table)
    write("images", table, PAGE)


if __name__ == "__main__":
    smoke(needs="--shared DIR with hard/mnist_cnn_a_adv")
    main()
