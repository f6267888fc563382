"""What happens to small checkpoints that other people published: read, recognised, asked about or refused.

    python benchmarks/networks/strangers.py FOLDER DATA_DIR

Prints a table. FOLDER has the files as OWNER+NAME/PATH; which ones, and what their publishers say, is in
strangers.toml; strangers.md has beside it how they do with true statements. The weights are not part of this
project. FOLDER/lines.json keeps the lines, and a stopped measurement goes on.
"""

import json
import sys
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import recognised_by
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import parse_normalisation

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Line:
    """One file: what was decided, and what its publisher says."""

    repository: str
    path: str
    outcome: str  # evaluated, asked, refused or read
    detail: str
    accuracy: float | None = None
    normalisation: str = ""  # as the publisher's code has it; empty where that is not known
    published: float | None = None
    same_normalisation: bool | None = None
    seconds: float | None = None  # of the processor


def line(folder: Path, repository: str, path: str, entry: dict[str, Any], data_dir: str) -> Line:
    """Reads one file and, where its images are at hand, recognises it."""
    said = entry.get("normalisation", "")
    about: dict[str, Any] = {"normalisation": said, "published": entry.get("accuracy")}

    file = folder / repository.replace("/", "+") / path
    started = time.process_time()
    try:
        checkpoint = load_checkpoint(str(file))
        if "data" not in entry:
            return Line(repository, path, "read", checkpoint.arch, **about)
        found = recognised_by(checkpoint, entry["data"], data_dir)
    except InputError as error:
        return Line(repository, path, "refused", str(error).removeprefix(f"{file}: "), **about)
    assert found.labelled is not None  # these data have labels
    if said:
        stated = parse_normalisation(said, checkpoint.channels)
        about["same_normalisation"] = found.candidate.normalisation == stated
    outcome = "asked" if found.question else "refused" if found.refusal else "evaluated"
    detail = "; ".join(found.question.lines) if found.question else found.refusal or found.sentence
    about["seconds"] = time.process_time() - started
    return Line(repository, path, outcome, detail, found.labelled.accuracy, **about)


def written(lines: list[Line]) -> str:
    """The table in Markdown."""
    count = {
        name: sum(one.outcome == name for one in lines) for name in ("evaluated", "asked", "refused", "read")
    }
    known = [one for one in lines if one.outcome == "evaluated" and one.same_normalisation is not None]
    agreeing = sum(bool(one.same_normalisation) for one in known)
    repositories = len({one.repository for one in lines})
    rows = [
        "# Checkpoints of other people",
        "",
        f"{len(lines)} small files of {repositories} public repositories, given without `--arch` and "
        f"`--normalize`: {count['evaluated']} evaluated, {count['asked']} asked about, {count['refused']} "
        f"refused with a reason, {count['read']} read whose images are not at hand. The publisher's code "
        f"says the normalisation of {len(known)} evaluated ones; {agreeing} are evaluated with it. Where a "
        "file is asked about, the table has the clean accuracy of each form and its accuracy under PGD-10 "
        "(l-infinity, 0.3 on MNIST, 8/255 on CIFAR-10). Accuracies are on up to 10,000 test images. Made by "
        "`benchmarks/networks/strangers.py`; the files are not part of this project.",
        "",
        "| repository | file | outcome | by what, or why not | accuracy | publisher's | normalisation | s |",
        "| :-- | :-- | :-- | :-- | --: | --: | :-- | --: |",
    ]
    for one in lines:
        ours = f"{one.accuracy:.2%}" if one.accuracy is not None and one.outcome == "evaluated" else ""
        theirs = f"{one.published:.2f}%" if one.published is not None else ""
        detail = one.detail.split("; pass --arch")[0].split("; try --arch")[0]
        rows.append(
            f"| [{one.repository}](https://github.com/{one.repository}) | `{one.path}` | {one.outcome} | "
            f"{detail} | {ours} | {theirs} | {one.normalisation} | {one.seconds or 0:.1f} |"
        )
    return "\n".join([*rows, ""]).replace("[layout", "\\[layout").replace("[activation", "\\[activation")


def main() -> None:
    folder, data_dir = Path(sys.argv[1]), sys.argv[2]
    stored = folder / "lines.json"
    done = (
        {(one["repository"], one["path"]): Line(**one) for one in json.loads(stored.read_text())}
        if (stored.exists())
        else {}
    )
    lines = []
    for entry in tomllib.loads((HERE / "strangers.toml").read_text())["file"]:
        for path in entry["paths"]:
            key = entry["repository"], path
            if key not in done:
                done[key] = line(folder, *key, entry, data_dir)
                stored.write_text(json.dumps([asdict(one) for one in done.values()]))
                print(done[key].outcome, *key, done[key].detail[:100], flush=True)
            lines.append(done[key])
    print(written(lines))


if __name__ == "__main__":
    main()
