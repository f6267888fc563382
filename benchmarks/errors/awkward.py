"""Honest but awkward defences, and switches that are not in the zoo, under the plain command.

    python benchmarks/errors/awkward.py FOLDER

A run for each goes into FOLDER, which a stopped measurement goes on with; the table is awkward.md.
"""

import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.errors.awkward_honest import HONEST
from benchmarks.errors.awkward_switches import EPS, SWITCHES
from robustbench_coded.judge.run import load_run
from robustbench_coded.runs.atomic import write_text
from zoo.trained import digits_network, load_digits

HERE = Path(__file__).parent
COUPLED = ("shuffled", "centred", "by-norm")
EXAMPLES = 256


def command(name: str, out: Path) -> list[str]:
    """What a user types."""
    file = "awkward_switches" if name in SWITCHES else "awkward_honest"
    checkpoint = "digits-erm" if name.endswith("_over_plain") else "digits-pgd-at"
    spec = f"{HERE / file}.py:{name.replace('-', '_')}"
    options = ["--eps", str(EPS), "--limit", str(EXAMPLES), "--out", str(out), "--quiet"]
    return ["csrobust", "eval", "--ckpt", checkpoint, "--defence", spec, *options]


def known(name: str) -> str:
    """What our own attack, which knows the switch, leaves of all 640 images: an upper end of the truth."""
    x, y = load_digits("test").batch(range(640))
    defence = SWITCHES[name](digits_network("digits-pgd-at"))
    stands = torch.stack([defence.logits(at, None).argmax(1) == y for at in (x, defence.broken_by(x, y))])
    return f"at most {stands.all(0).double().mean().item():.1%}"


def line(folder: Path, name: str) -> str:
    """The row of one defence, which is evaluated first where it was not."""
    out = folder / name.replace("-", "_")
    seconds = out.with_name(f"{out.name}.seconds")
    if not seconds.exists():
        started = time.monotonic()
        subprocess.run(command(name, out), check=True, stdout=subprocess.DEVNULL)
        write_text(seconds, f"{time.monotonic() - started:.0f}\n")
    found = [one for one in load_run(out).judgements if one.case.subject.defence != "standard"]
    verdict = min(found, key=lambda one: str(one.threat) != "batch/unknown").verdict
    left = verdict.accuracy
    assert left is not None  # the run is finished
    kind = SWITCHES[name] if name in SWITCHES else HONEST[name.removesuffix("_over_plain")]
    truth = known(name) if name in SWITCHES else "the network's, but for the change"
    summary = load_run(out).summary
    images = int(summary[summary["attack"] == "ensemble"]["examples"].max())
    word = verdict.name + (f": {verdict.rule}" if verdict.name == "not settled" else "")
    cells = (
        name.replace("_over_plain", " over plain"),
        (kind.__doc__ or "").strip().split("\n")[0],
        truth,
        word,
        f"{left.estimate:.1%} [{left.low:.1%}, {left.high:.1%}]",
        str(images),
        f"{float(seconds.read_text()) / 60:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main(folder: Path) -> None:
    """Measures what is missing and writes awkward.md."""
    head = ["| defence | what it does | truth | word | left | images | minutes |"]
    head.append("| --- | --- | --- | --- | --- | ---: | ---: |")
    honest = [line(folder, name) for name in (*HONEST, *(f"{name}_over_plain" for name in COUPLED))]
    switches = [line(folder, name) for name in SWITCHES]
    text = [
        "# Honest defences that are awkward to judge, and switches that are not in the zoo",
        "",
        f"Digits, linf {EPS}, plain command (`awkward.py`), around an adversarially trained network that "
        "keeps at most 71.9% of 640 images. *Over plain* names the undefended network as its base model, and "
        "the word is that of whole batches. Minutes are of the clock, on two cores that others used, too.",
        "",
        *head,
        *honest,
        "",
        "Truth of switches: what an attack that knows the switch leaves (`awkward_switches.py`), of 640 "
        "images. The switch is decided in numpy; `blind` has its network there, too.",
        "",
        *head,
        *switches,
        "",
    ]
    write_text(HERE / "awkward.md", "\n".join(text))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
