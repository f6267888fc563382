"""What stands between marks in README.md, docs/, reports/README.md and benchmarks/README.md, from the
committed reports (`make rewrite` runs it). The tables of the study are those of finding_study.py.

python docs/readme_findings.py              writes all but the comparison of two defences in README.md
python docs/readme_findings.py compared     runs the two commands above it, and writes it, too (a minute)
"""

import contextlib
import csv
import io
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.bench.table import pipes
from benchmarks.errors.coverage import placed
from benchmarks.evidence import OTHERS, by_cost, options_of, page_of, read, rows_of
from docs import run_tables
from docs.finding_study import protocol_head, with_tables
from docs.public_names import public_names
from robustbench_coded.cli.main import main as csrobust
from robustbench_coded.judge.intervals import TAIL, clopper_pearson
from robustbench_coded.reports.text.formatting import MARKS
from robustbench_coded.schema.words import IntervalKind

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BIAS = ROOT / "docs" / "bias.md"
REPORTS = ROOT / "reports"
PAGES = (
    README,
    *sorted((ROOT / "docs").glob("*.md")),
    REPORTS / "README.md",
    ROOT / "benchmarks" / "README.md",
)
MAIN = "batch/unknown"
Claim = tuple[str, str, str, str, str | None]
# What README opens with: how a defence and its setting are called, run, checkpoint, defence, and the figure
# beside ours: an attack, or None for the claim that the run tested. Those of committed checkpoints first.
CLAIM_COLUMNS = ("defence and setting", "PGD-10, or as reported", "csrobust", "verdict")
CLAIMS: tuple[Claim, ...] = (
    ("JPEG compression; digits, linf 0.2", "board-digits", "erm", "published:jpeg", "pgd-10"),
    ("Batch-norm adaptation; digits, linf 0.2",
     "board-digits-coupled", "erm", "published:batch-norm-adaptation", "pgd-10"),
    ("Adversarial training; CIFAR-10, linf 8/255",
     "cifar10-adversarial", "pgd-at", "standard", "pgd-10"),
    ("Stochastic local winner-takes-all, authors' weights; CIFAR-10, linf 8/255",
     "lwta", "lwta-wrn34-1", "standard", None),
    ("Randomised coded inference (RCI); CIFAR-10, linf 8/255",
     "cifar10-resnet20", "resnet20", "rci", "pgd-10"),
)  # fmt: skip
# Rows of reports/outside that are verdicts.
OUTSIDE = ("networks", "published weights", "defences in their authors' code")
SIDES = ("robust", "broken")  # of rows of reports/outside
NOTHING = 0.05  # robust accuracy up to which an account calls a defence broken, as in benchmarks/soundness
FAR = 0.03  # as in benchmarks/errors/zoo_report.py


def main(*names: str) -> None:
    for page in PAGES:
        before = page.read_text()
        after = with_blocks(before)
        if "compared" in names and page == README:
            after = placed(after, "compared", compared(after))
        if after != before:
            page.write_text(after)


def with_blocks(text: str) -> str:
    """``text`` with what stands between each pair of markers written anew."""
    for name, make in BLOCKS.items():
        if f"<!-- {name}: begin -->" in text:
            text = placed(text, name, make())
    return with_tables(text) if "<!-- gains: begin -->" in text else text


def compared(text: str) -> str:
    """The table of two defences that the commands of README.md write, run here in a folder of their own,
    without its one network and the attacker who knows the draw.
    """
    evaluated, then_compared = re.findall(
        r"^csrobust (eval .* --out runs/two|compare runs/two .*)$", text, re.M
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with contextlib.redirect_stdout(io.StringIO()):
            csrobust([*shlex.split(evaluated), "--quiet"])
            csrobust(shlex.split(then_compared))
        (page,) = Path().glob("runs/*/comparison.md")
        table = re.search(r"^\|.*Defence.*(\n\|.*)+", page.read_text(), re.M)
    assert table is not None
    rows = [line.split("|")[1:-1] for line in table[0].splitlines()]
    shown = [place for place, head in enumerate(rows[0]) if "Network" not in head and "known" not in head]
    return "\n".join("|".join(["", *(row[place] for place in shown), ""]) for row in rows)


def claims() -> str:
    """What a standard attack leaves of a defence, or its authors reported, and what csrobust leaves."""
    return pipes([CLAIM_COLUMNS, *(claim_row(claim)[0] for claim in CLAIMS)])


def claim_row(claim: Claim, reports: Path = REPORTS) -> tuple[tuple[str, ...], int]:
    """Its cells by the run in ``reports``, and the number of images behind them."""
    title, run, checkpoint, defence, attack = claim
    subject = {"checkpoint": checkpoint, "defence": defence, "threat": MAIN}
    verdict = _matching(rows_of(run, "verdicts", reports), subject)[0]
    budget = {name: verdict[name] for name in ("norm", "eps", "eps_space")}
    lines = _matching(rows_of(run, "summary", reports), subject | budget)
    ensemble = _matching(lines, {"attack": "ensemble"})[0]
    if attack is None:
        reported = tomllib.loads(options_of(REPORTS, run)[-1])["claim"]
        beside = f"{100 * float(reported):.1f} (reported)"
    else:
        beside = f"{100 * float(_matching(lines, {'attack': attack})[0]['accuracy']):.1f}"
    cells = (title, beside, _accuracy(ensemble), _linked(verdict["verdict"], run))
    return cells, int(ensemble["examples"])


def _linked(verdict: str, run: str) -> str:
    """A verdict with the report of its run, and the protocol if that can't be judged again from here."""
    head = protocol_head(run)
    return f"[{verdict}](reports/{page_of(run)})" + (f" ({head})" if head else "")


def _rows(name: str) -> list[dict[str, str]]:
    with (REPORTS / name).open() as file:
        return list(csv.DictReader(file))


def _matching(rows: list[dict[str, str]], wanted: dict[str, str]) -> list[dict[str, str]]:
    return [row for row in rows if all(row[column] == value for column, value in wanted.items())]


def _accuracy(row: dict[str, str]) -> str:
    accuracy, batches = 100 * float(row["accuracy"]), int(row["batches"])
    if not row["interval_kind"]:
        return f"{accuracy:.1f} in {batches} batches"
    low, high = (100 * float(row[column]) for column in ("ci_low", "ci_high"))
    cell = f"{accuracy:.1f} [{low:.1f}, {high:.1f}]{MARKS[IntervalKind(row['interval_kind'])]}"
    if row["own_accuracy"]:
        own = f"{100 * float(row['own_accuracy']):.1f} as attacked ({row['own_batches']} batches)"
        return f"{own}; {cell} re-batched"
    return cell


def zoo() -> str:
    """On how many entries of the zoo each tool errs."""
    return " ".join(_counts(_matching(_rows("zoo/zoo.csv"), {"threat": MAIN})))


def bias() -> str:
    """Verdicts on defences of known robust accuracy: those of others, generated ones, then the zoo."""
    rows: list[Sequence[str]] = [("truth", "threat model", "number", "positive", "negative", "open")]
    for group, truth, broken_, stands, open_ in _outside():
        if group in OUTSIDE and truth in SIDES:
            rows.append(_verdicts(f"{group}: {truth}", MAIN, [stands, broken_, open_]))
    for side, ours in _soundness().items():
        rows.append(_verdicts(f"generated: {side}", MAIN, _outcomes(ours["csrobust"])))
    for broken, side in (("False", "robust"), ("True", "broken")):
        pairs = _matching(_rows("pairs/pairs.csv"), {"broken": broken, "threat": MAIN})
        rows.append(_verdicts(f"certified pairs: {side}", MAIN, _outcomes(pairs)))
    entries = [row for row in _rows("zoo/zoo.csv") if not row["third_party"]]
    for broken in ("False", "True"):
        for threat in ("batch/unknown", "batch/known", "victim/unknown", "victim/known"):
            senses = [row["sense"] for row in _matching(entries, {"broken": broken, "threat": threat})]
            counts = [senses.count(sense) for sense in ("positive", "negative", "open")]
            rows.append(_verdicts("zoo: " + ("broken" if broken == "True" else "robust"), threat, counts))
    return pipes([row for row in rows if row[2] != "0"])


def _outcomes(rows: Sequence[dict[str, str]]) -> list[int]:
    """How many verdicts are positive, negative and open."""
    verdicts = [row["verdict"] for row in rows]
    positive, open_ = verdicts.count("no failure found"), verdicts.count("not settled")
    return [positive, len(verdicts) - positive - open_, open_]


def _outside() -> Iterator[tuple[str, str, int, int, int]]:
    """Rows of reports/outside: group, truth, and how many csrobust breaks, accepts and leaves open."""
    for line in (REPORTS / "outside" / "report.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[2].isdigit():
            broken, stands, open_ = map(int, cells[3:])
            yield cells[0], cells[1], broken, stands, open_


def _soundness() -> dict[str, dict[str, list[dict[str, str]]]]:
    """Rows of reports/soundness by side of the truth and by tool."""
    sides: dict[str, dict[str, list[dict[str, str]]]] = {"robust": {}, "broken": {}}
    for row in _rows("soundness/soundness.csv"):
        side = "broken" if float(row["truth"]) == 0 else "robust"
        sides[side].setdefault(row["tool"], []).append(row)
    return sides


def truth() -> str:
    """Verdicts where the truth is that of others, then where it is proved."""
    rows = list(_outside())
    counts = {
        side: [sum(n) for n in zip(*(r[2:] for r in rows if r[1] == side), strict=True)] for side in SIDES
    }
    (broken, stands, unsettled), (wrong, upheld, unclear) = counts["broken"], counts["robust"]
    return (
        f"- [External truth](reports/outside/report.md): of {sum(counts['broken'])} cases broken in prior "
        f"work, csrobust breaks {broken}, leaves {unsettled} open and accepts {stands or 'none'}. "
        f"Of {sum(counts['robust'])} reported robust, mostly single images, it accepts {upheld or 'none'}, "
        f"leaves {unclear} open and breaks {wrong}.\n"
        f"- [Generated defences](reports/soundness/report.md) of proved accuracy: {_generated()}"
    )


def _generated() -> str:
    """On how many generated defences each tool is far from the truth, and on which csrobust errs."""
    by_tool: dict[str, list[dict[str, str]]] = {}
    for row in _rows("soundness/soundness.csv"):
        by_tool.setdefault(row["tool"], []).append(row)
    far = {
        tool.partition(" ")[0]: sum(map(_far, rows))
        for tool, rows in by_tool.items()
        if tool == "csrobust" or "AutoAttack" in tool
    }
    errors = [f"`{row['instance']}`" for row in by_tool["csrobust"] if _errs(row)]
    named = f"{len(errors)} ({', '.join(errors)})" if errors else "none"
    others = ", ".join(f"{tool} on {count}" for tool, count in far.items() if tool != "csrobust")
    total = len(by_tool["csrobust"])
    return (
        f"csrobust is off by more than {100 * FAR:g} points on {far['csrobust']} of {total}, {others}. "
        f"csrobust's verdict is wrong on {named}."
    )


def _far(row: dict[str, str]) -> bool:
    return abs(float(row["accuracy"]) - float(row["truth"])) > FAR


def _errs(row: dict[str, str]) -> bool:
    """True if a verdict contradicts the truth: a positive one whose interval excludes it, too."""
    truth, positive = float(row["truth"]), row["verdict"] == "no failure found"
    if positive:
        return not float(row["low"]) <= truth <= float(row["high"])
    return row["verdict"] != "not settled" and truth > NOTHING


def provenance() -> str:
    """How many committed runs come from one commit under the protocol, and which do not."""
    rows = _rows("evidence.csv")
    others = [row["run"] for row in rows if not one_commit(row)]
    linked = ", ".join(f"[{run}]({page_of(run)})" for run in others) or "none"
    return (
        f"Of {len(rows)} runs, {len(rows) - len(others)} come from one commit each, under the protocol. "
        f"Several commits, or an earlier order of attacks: {linked}. The attacks of all took "
        f"{sum(float(row['minutes']) for row in rows) / 60:.1f} hours of one core, those of the study "
        f"{sum(float(row['minutes']) for row in rows if row['run'].startswith('rci/')) / 60:.1f}."
    )


def others() -> str:
    """Where the networks of others are published, and the runs that read them."""
    networks = read(OTHERS)
    rows: list[Sequence[str]] = [(*networks[0], "runs")]
    for network in networks:
        named = network["file"]
        runs = [
            run for run in sorted(by_cost(REPORTS)) if any(named in text for text in options_of(REPORTS, run))
        ]
        rows.append((*network.values(), ", ".join(f"[{run}]({page_of(run)})" for run in runs)))
    return pipes(rows)


def one_commit(row: dict[str, str]) -> bool:
    """True if a run of evidence.csv followed the protocol, by one commit."""
    return bool(row["protocol"]) and " " not in row["commit"]


def _verdicts(truth: str, threat: str, counts: Sequence[int]) -> Sequence[str]:
    total = sum(counts)
    shares = []
    for count in counts:
        low, high = clopper_pearson(count, max(total, 1), TAIL)
        shares.append(f"{count} [{100 * low:.0f}, {100 * high:.0f}]")
    return (truth, threat, str(total), *shares)


def _account(row: dict[str, str]) -> float:
    return float(row["third_party_accuracy"])


def _side(account: float, low: float, high: float) -> str:
    if account < low - FAR:
        return "too low"
    return "too high" if account > high + FAR else ""


def _counts(entries: list[dict[str, str]]) -> Iterator[str]:
    ours = [row for row in entries if not row["third_party"]]
    off: list[str] = []
    shared: dict[str, None] = {}
    for package in ("AutoAttack", "torchattacks"):
        accounts: dict[str, list[dict[str, str]]] = {}
        for row in entries:
            if row["third_party"].startswith(package.lower()):
                accounts.setdefault(row["defence"], []).append(row)
        sides = [
            _side(min(map(_account, rows)), float(rows[0]["truth_low"]), float(rows[0]["truth_high"]))
            for rows in accounts.values()
        ]
        too_low, too_high = (sides.count(side) for side in ("too low", "too high"))
        shared = shared or dict.fromkeys(accounts)
        off.append(f"{too_low + too_high} ({too_low} too low, {too_high} too high)")
    far = {
        row["defence"]
        for row in ours
        if row["accuracy"]
        and _side(float(row["accuracy"]), float(row["truth_low"]), float(row["truth_high"]))
    }
    broken = {row["defence"] for row in ours if row["broken"] == "True"}
    words = {row["defence"]: row["verdict"] for row in ours}
    missed = sum(words[name] == "no failure found" for name in broken)
    judged = [row for row in ours if row["defence"] not in broken and row["sense"] == "negative"]
    constant = [f"`{row['defence']}`" for row in judged if row["fair"] == "True"]
    open_words = sum(word == "not settled" for word in words.values())
    yield (
        f"csrobust is off by more than {100 * FAR:g} points on {len(far & {*shared})} of {len(shared)} "
        f"defences ({len(far)} of all {len(words)}), AutoAttack on {off[0]}, torchattacks on {off[1]}."
    )
    yield (
        f"csrobust accepts {missed or 'none'} of the {len(broken)} broken ones, calls "
        f"{len(judged) or 'none'} of the {len(words) - len(broken)} robust ones broken, and leaves "
        f"{open_words} open."
    )
    if constant:
        these = " and ".join(constant)
        count = "counts" if len(constant) == 1 else "count"
        yield f"On two classes, a constant answer keeps as much as {these}, which {count} as broken."


BLOCKS = {
    "claims": claims,
    "truth": truth,
    "zoo": zoo,
    "bias": bias,
    "provenance": provenance,
    "others": others,
    "answer": run_tables.answer,
    "coupled": run_tables.coupled,
    "choices": run_tables.choices,
    "trainings": run_tables.trainings,
    "fine-tuned": run_tables.fine_tuned,
    "ratios": run_tables.ratios,
    "names": public_names,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
