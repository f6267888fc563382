"""What happens to small checkpoints that other people published, and whether every true statement is taken.

    python benchmarks/networks/strangers.py FOLDER [NUMBER ...]

Prints two tables; strangers.md keeps the last ones. strangers.toml lists the files. FOLDER has a folder for
each, ``01``, ``02`` and so on: the weights, ``definition.py`` (the publisher's class, which ``build()``
returns) and ``answers.npy`` (float [256, classes]: what the publisher's own ``forward`` answers to the first
256 images, normalised as the publisher does). Beside these it has the test images: ``cifar10_test.npz``,
``mnist/``, and ``NAME.npz`` for data of another name. None of this is part of the project.

Each file is given to ``csrobust eval`` alone, with ``--normalize``, and with ``--arch definition.py:build``
as well. FOLDER/lines.json keeps what came of it: a stopped measurement goes on; delete it to begin anew.
"""

import hashlib
import json
import re
import resource
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.smoke import smoke

HERE = Path(__file__).parent
IMAGES = 256
READINGS = ("alone", "with its normalisation", "with its definition")
ASKED = ("asked, true line 1", "asked, true line below", "asked, no true line")
OUTCOMES = ("right", "wrong, warned", "wrong in silence", *ASKED, "refused", "crashed")


def outcome(file: Path, entry: dict[str, Any], options: list[str], tried: bool = False) -> dict[str, Any]:
    """One of OUTCOMES, csrobust's words, and seconds of the processor with the start of Python and torch.

    Predictions are compared on the first images. Of a question, each line that states no other normalisation
    is evaluated as well (``tried``), outside these seconds.
    """
    folder = file.parents[1]
    data = entry["data"] if entry["data"] in ("cifar10", "mnist") else f"npz:{folder / entry['data']}.npz"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "robustbench_coded", "eval", "--ckpt", str(file), "--data", data]
        command += [
            "--data-dir",
            str(folder),
            "--first",
            "--limit",
            str(IMAGES),
            "--attacks",
            "fgsm",
            *options,
        ]
        done = subprocess.run([*command, "--out", f"{out}/run"], capture_output=True, text=True)
        tables = [pd.read_parquet(path) for path in Path(out).glob("run/outcomes.parquet")]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = done.stderr[done.stderr.find("csrobust:") :].replace(str(folder), "FOLDER")
    found = {"words": words, "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}
    if done.returncode not in (0, 2) or "Traceback" in done.stderr:
        return found | {"what": "crashed", "words": done.stderr[-2000:]}
    if done.returncode == 0:
        rows = pd.concat(tables)
        clean = rows[rows["attack"] == "clean"].sort_values("example")["prediction"].to_numpy()
        equal = int((clean == np.load(file.parent / "answers.npy").argmax(1)).sum())
        wrong = "wrong, warned" if "warning:" in done.stderr else "wrong in silence"
        return found | {"what": "right" if equal == IMAGES else wrong, "words": f"{equal} of {IMAGES}"}
    lines = re.findall(r"^  (--(?:arch|normalize) .*?)(?:  \(.*)?$", words, re.MULTILINE)
    for number, line in enumerate([] if tried else lines, 1):
        offered = [text.strip("'") for text in re.findall(r"'[^']*'|\S+", line)]
        if "--normalize" in offered and entry["normalisation"] not in offered:
            continue
        if outcome(file, entry, [*options, *offered], tried=True)["what"] == "right":
            return found | {"what": ASKED[min(number, 2) - 1]}
    return found | {"what": ASKED[2] if lines else "refused"}


def read(folder: Path, number: int, entry: dict[str, Any]) -> dict[str, Any]:
    """One file in the three readings."""
    file = folder / f"{number:02d}" / Path(entry["path"]).name
    assert hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"], file
    stated = ["--normalize", entry["normalisation"]]
    defined = ["--arch", f"{file.parent / 'definition.py'}:build", *stated]
    given = ([], stated, defined) if Path(defined[1].removesuffix(":build")).exists() else ([], stated)
    return {reading: outcome(file, entry, options) for reading, options in zip(READINGS, given, strict=False)}


def written(entries: list[dict[str, Any]], lines: dict[str, dict[str, Any]]) -> str:
    """Both tables in Markdown: how often what happened, and to which file."""
    rows = [f"| | {' | '.join(OUTCOMES)} | s |", "| :-- |" + " --: |" * (len(OUTCOMES) + 1)]
    for reading in READINGS:
        all_of = [line[reading] for line in lines.values() if reading in line]
        counts = Counter(one["what"] for one in all_of)
        cells = [f"{reading} ({len(all_of)})", *(str(counts[what]) for what in OUTCOMES)]
        rows.append(f"| {' | '.join(cells)} | {sum(one['seconds'] for one in all_of):.0f} |")
    rows += ["", f"| file | network | normalisation | {' | '.join(READINGS)} | s |"]
    rows.append("| :-- " * 6 + "| --: |")
    for number, line in sorted(lines.items(), key=lambda item: int(item[0])):
        entry = entries[int(number) - 1]
        cells = [f"[{entry['repository']}](https://github.com/{entry['repository']}) `{entry['path']}`"]
        cells += [entry["network"], entry["normalisation"]]
        cells += [line[reading]["what"] if reading in line else "" for reading in READINGS]
        rows.append(f"| {' | '.join(cells)} | {sum(one['seconds'] for one in line.values()):.0f} |")
    return "\n".join(rows)


def main() -> None:
    folder = Path(sys.argv[1])
    entries = tomllib.loads((HERE / "strangers.toml").read_text())["stranger"]
    stored = folder / "lines.json"
    lines = json.loads(stored.read_text()) if stored.exists() else {}
    for number in map(int, sys.argv[2:] or range(1, len(entries) + 1)):
        if str(number) not in lines:
            lines[str(number)] = read(folder, number, entries[number - 1])
            stored.write_text(json.dumps(lines, indent=1))
    print(written(entries, lines))


if __name__ == "__main__":
    smoke(needs="files that other people published, which strangers.toml lists")
    main()
