"""Tables and sentences from committed runs and measurements, which readme_findings.py puts in place."""

import re
import tomllib
from collections.abc import Iterable, Sequence

from benchmarks.bench.table import pipes
from benchmarks.evidence import REPORTS, ROOT, page_of, read, rows_of
from docs.finding_study import (
    ATTACKERS,
    budget,
    gains,
    interval,
    is_subject,
    other_networks,
    protocol_head,
)

MANIFEST = ROOT / "checkpoints" / "manifest.toml"
SPEED = ROOT / "benchmarks" / "speed"
# What docs/choose-attacks.md says of a defence: threat model, options, run and the attack that decided there.
CHOICES = (
    ("noise on inputs, features or weights", "draw unknown, draw known",
     "--defence published:random-noise-defence", "board-digits-queries", "transfer-pgd-20"),
    ("random transforms", "draw unknown, draw known",
     "--defence published:random-transforms", "board-cifar10-random-transforms", "pgd-100"),
    ("stochastic layers in the network itself", "draw unknown",
     "--arch file.py:build --claim 76%", "lwta", "relaxed-pgd-20+momentum=1"),
    ("purification", "draw unknown, draw known",
     "--defence published:score-purification", "board-digits-purification", "pgd-100+momentum=1"),
    ("batch-norm adaptation, TENT", "whole batches, single victims",
     "--defence published:tent --batch-size 16 --inputs batch,victim",
     "board-digits-coupled", "pgd-100+loss=margin+momentum=1"),
    ("randomised coded inference (RCI)", "whole batches, single victims",
     "--rci N=190 --inputs batch,victim", "cifar10-resnet20", "transfer-pgd-20"),
    ("quantised or masked gradients", "one image at a time",
     "--defence published:jpeg", "board-digits", "transfer-pgd-20"),
    ("detectors with memory", "state reset, state kept",
     "--defence published:stateful-detection --batch-size 16 --state persistent:4",
     "board-digits-memory-kept", "pgd-100+loss=margin+momentum=1"),
    ("adversarial training, deterministic", "one image at a time",
     "--eps 8/255 --limit 640", "cifar10-adversarial", "apgd-mt-20"),
)  # fmt: skip
COUPLED = "board-digits-coupled"
COUPLED_DEFENCES = {
    ("published:tent", ""): "TENT",
    ("published:batch-norm-adaptation", ""): "batch-norm adaptation",
    ("rci", "16"): "RCI, N = K",
}
COUPLED_ATTACKS = ("pgd-100", "pgd-100+momentum=1", "pgd-100+loss=margin+momentum=1", "transfer-pgd-20")
# A ratio, the row of speed-cpu.md with it, and the least (of its inverse) or the most that it should be.
RATIOS = (
    ("torchattacks over csrobust, PGD-10, float32", "csrobust pgd-10, float32", "at least", 1.4),
    ("torchattacks over csrobust, PGD-100, float32", "csrobust pgd-100, float32", "at least", 1.4),
    ("the same, PGD-10, bfloat16 gradients", "csrobust pgd-10, bfloat16", "at least", 2.2),
    ("the same, PGD-100, bfloat16 gradients", "csrobust pgd-100, bfloat16", "at least", 2.2),
    ("gradient through RCI over a plain one, K = 128, N = 128", "pgd-10, RCI K=128 N=128", "at most", 1.05),
    ("gradient through RCI over a plain one, K = 128, N = 192", "pgd-10, RCI K=128 N=192", "at most", 1.05),
    ("gradient at K = 8, N = 12, grouped, over one at K = 128, N = 192",
     "pgd-10, RCI K=8 N=12, 16 batches at once", "at most", 1.10),
    ("coded inference at N = K over plain inference", "coded K=128 N=128", "at most", 1.05),
)  # fmt: skip
RECIPES = ("erm", "mixup", "manifold-mixup", "coded", "pgd-at")


def answer() -> str:
    """What RCI retains and gains, in sentences for README.md and docs/finding.md."""
    erm = [row for row in rows_of(f"rci/{ATTACKERS}") if is_subject(row)]
    rows = [row for row in (*gains(), *other_networks(), *erm) if row["eps_space"] == "pixel"]
    large, middle, small = (
        [row for row in rows if budget(row) in at]
        for at in (("4/255", "8/255"), ("2/255",), ("1/255", "0.5/255"))
    )
    noise = _one(rows_of("rci/erm-pixel-1-255"), defence="noise[sigma=0.02]", threat="batch/unknown")
    robust = _one(rows_of("cifar10-adversarial"), defence="rci", threat="batch/unknown")
    known = [
        row
        for run in (ATTACKERS, "erm-pixel-1-255", "erm-pixel-0.5-255")
        for row in rows_of(f"rci/{run}")
        if is_subject(row, "batch/known")
    ]
    known += [row for row in rows_of("cifar10-normalized") if is_subject(row, "batch/known")]
    return (
        f"Around {_number(len({row['checkpoint'] for row in rows}))} networks that were not trained against "
        f"attacks, RCI retains {_range(large, 'accuracy')}% at 4/255 and 8/255 (upper limits "
        f"{_range(large, 'ci_high')}%), and {_range(middle, 'accuracy')}%, about chance level, at 2/255. At "
        f"1/255 and 0.5/255, it gains {_range(small, 'gain')} points ({_verdicts(small)}); at 1/255, "
        f"Gaussian noise gains {_range([noise], 'gain')}. Around an adversarially trained network, it "
        f"retains {_range([robust], 'accuracy')}% at 8/255, a gain of {interval(robust, 'gain', 'gain')}† "
        f"({_verdicts([robust])}). If the attacker knows the order, gains are {_range(known, 'gain')} "
        f"points, without intervals ({_verdicts(known)})."
    )


def _range(rows: Iterable[dict[str, str]], column: str) -> str:
    """The least and the largest, in percent."""
    values = sorted(100 * float(row[column]) for row in rows if row[column])
    return " to ".join(dict.fromkeys(f"{value:.1f}" for value in (values[0], values[-1])))


def _verdicts(rows: Iterable[dict[str, str]]) -> str:
    return " or ".join(sorted({row["verdict"] for row in rows}))


def _number(count: int) -> str:
    return ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")[count]


def _one(rows: Iterable[dict[str, str]], **wanted: str) -> dict[str, str]:
    (row,) = (row for row in rows if all(row[column] == value for column, value in wanted.items()))
    return row


def coupled() -> str:
    """What attacks leave of batch-dependent defences on digits, in the batches that they were made for."""
    rows = rows_of(COUPLED, "summary")
    head = " ".join(filter(None, ("defence", f"({protocol_head(COUPLED)})")))
    lines: list[Sequence[str]] = [(head, *(f"`{attack}`" for attack in COUPLED_ATTACKS))]
    for (defence, n), name in COUPLED_DEFENCES.items():
        subject = {"defence": defence, "n": n, "threat": "batch/unknown"}
        found = (_one(rows, attack=attack, **subject) for attack in COUPLED_ATTACKS)
        lines.append((name, *(f"{100 * float(row['own_accuracy'] or row['accuracy']):.1f}" for row in found)))
    return pipes(lines)


def choices() -> str:
    """For each kind of defence: options, what decided in a committed run, and the minutes of the run."""
    minutes = {row["run"]: row["minutes"] for row in read(REPORTS / "evidence.csv")}
    lines: list[Sequence[str]] = [("your defence", "threat model", "options", "what decided", "cost")]
    for defence, threat, options, run, attack in CHOICES:
        decided = f"[`{attack}`](../reports/{page_of(run)})"
        lines.append((defence, threat, f"`{options}`", decided, f"{minutes[run]} min"))
    return pipes(lines)


def trainings() -> str:
    """Clean accuracy of the ResNet-20s in checkpoints/, by recipe."""
    own = {entry["recipe"]: entry for entry in _resnets() if "start" not in entry}
    rows = [
        (recipe, _percent(own[recipe]["accuracy"]), f"`{own[recipe]['made_from']}`") for recipe in RECIPES
    ]
    return pipes([("recipe", "accuracy", "recipe file"), *rows])


def fine_tuned() -> str:
    """Clean accuracy of the ResNet-20s that were fine-tuned behind a defence, without it and behind it."""
    rows = [
        (
            f"`{entry['defence']}`",
            _percent(entry["accuracy"]),
            _percent(entry["defended_accuracy"]),
            f"`{entry['made_from']}`",
        )
        for entry in _resnets()
        if "start" in entry
    ]
    return pipes([("defence", "alone", "behind it", "recipe file"), *rows])


def _resnets() -> list[dict[str, str]]:
    entries = tomllib.loads(MANIFEST.read_text()).values()
    return [entry for entry in entries if entry["arch"] == "resnet20"]


def _percent(fraction: str) -> str:
    return f"{100 * float(fraction):.2f}"


def ratios() -> str:
    """What benchmarks/speed measured, beside what it should show."""
    costs = dict(re.findall(r"\| \d+ \| (.+?) \|[^|]+\| ([\d.]+) \[", (SPEED / "speed-cpu.md").read_text()))
    lines: list[Sequence[str]] = [("ratio", "measured", "it should be")]
    for title, name, side, bound in RATIOS:
        cost = float(costs[name])
        lines.append((title, f"{1 / cost if side == 'at least' else cost:.2f}", f"{side} {bound:g}"))
    return pipes(lines)
