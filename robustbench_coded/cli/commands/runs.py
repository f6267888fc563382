"""``csrobust show``, ``report`` and ``compare``: what is done with run folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from robustbench_coded.cli.parser import AsJson, Quiet, RunFolder, RunFolders, examples
from robustbench_coded.errors import LOG, InputError
from robustbench_coded.extensions import load, points_of
from robustbench_coded.options.option import Option
from robustbench_coded.reports.text.escape import one_line


@examples("csrobust show runs/mine", "csrobust show runs/mine --example 5")
def show_command(
    run: RunFolder,
    example: Annotated[int | None, Option("One example, by its number.")] = None,
    as_json: AsJson = False,
) -> int:
    """Show a run, or all answers to one of its examples."""
    from rich.console import Console

    from robustbench_coded.reports.render.terminal import example_table, summary_table
    from robustbench_coded.reports.run.examples import example_text_table
    from robustbench_coded.run import load_run

    loaded = load_run(run)
    if example is None:
        if as_json:
            print(json.dumps(loaded.as_data()))
        else:
            Console().print(summary_table(loaded))
        for report in load("audits", "reports")(loaded):
            if not report.holds:
                LOG.warning(f"{report}; csrobust report {run} writes it again")
        return 0
    sheet = example_text_table(loaded, example)
    if as_json:
        rows = [dict(zip(map(str.lower, sheet.heads), row, strict=True)) for row in sheet.rows]
        print(json.dumps({"run": str(run), "example": example, "rows": rows}))
    else:
        Console().print(example_table(f"example {example} of {loaded.name}", sheet))
    return 0


# Written by every report, into the run folder.
WRITTEN = ("md", "html")


@examples(
    "csrobust report runs/mine",
    "csrobust report runs/mine --format robustbench --out model_info",
    "csrobust report runs/mine --format latex --attacks clean,pgd-10,ensemble",
)
def report_command(
    run: RunFolder,
    title: Annotated[str, Option("Title of the report; default: the folder's name.")] = "",
    formats: Annotated[
        str,
        Option(
            "md and html (the report in the run folder); to --out: latex (tables, and figures as PDF), "
            "parquet, robustbench and every-eval-ever (JSON).",
            word="format",
        ),
    ] = "md,html",
    out: Annotated[Path, Option("Folder for other formats.")] = Path("exports"),
    attacks: Annotated[
        str | None, Option("Columns of the LaTeX table: clean,pgd-10,'ensemble batch/unknown'.")
    ] = None,
    quiet: Annotated[bool, Option("Write the report and print nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write the report of a run from its files, or the run in the format of another tool."""
    from rich.console import Console

    from robustbench_coded.reports.render.terminal import result
    from robustbench_coded.reports.write import write_reports
    from robustbench_coded.run import load_run

    chosen = _formats(formats, (*WRITTEN, *points_of("exporters")))
    others = [name for name in chosen if name not in WRITTEN]
    if attacks is not None and "latex" not in others:
        raise InputError("--attacks chooses columns of --format latex; other formats have all attacks")
    if others:
        _refuse_file(out)
    if written := len(others) < len(chosen):
        write_reports(run, title)
    loaded = load_run(run)
    if others and loaded.verdicts.empty:
        raise InputError(f"{run} has no verdict yet; run its evaluation first")
    columns = [] if attacks is None else [[part.strip() for part in attacks.split(",")]]
    for name in others:
        out.mkdir(parents=True, exist_ok=True)
        files = load("exporters", name)(loaded, out, *(columns if name == "latex" else ()))
        if not (quiet or as_json):
            print("".join(one_line(f"{name}: {file}") + "\n" for file in files), end="")
    if as_json:
        print(json.dumps(loaded.as_data()))
    elif written and not quiet:
        Console().print(result(loaded))
        print(one_line(f"report: {run / 'report.md'}"))
    return 0


ENDINGS = {"md": "md", "html": "html", "csv": "csv", "latex": "tex"}


@examples(
    "csrobust compare runs/mine runs/other",
    "csrobust compare runs/mine --baseline standard --format md,html,csv,latex --out comparison",
)
def compare_command(
    runs: RunFolders,
    baseline: Annotated[
        str | None,
        Option(
            "Run, checkpoint or defence to compare with; default: the first run.",
        ),
    ] = None,
    formats: Annotated[
        str | None, Option(f"{', '.join(ENDINGS)}; several with --out.", word="format")
    ] = None,
    paper: Annotated[bool, Option("Also compare with the numbers of arXiv 2510.00253.")] = False,
    out: Annotated[Path | None, Option("Folder to write comparison.md ... to.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Compare defences and runs by paired differences.

    Worst cases are compared over the attacks that ran on both. Settings that differ between runs are listed.
    """
    chosen = [] if formats is None else _formats(formats, tuple(ENDINGS))
    if len(chosen) > 1 and out is None:
        raise InputError(f"--format {formats} is several files; say where to with --out")
    _refuse_file(out)
    from rich.console import Console

    from robustbench_coded.reports.compare.comparison import compare
    from robustbench_coded.reports.render.comparison import comparison_document
    from robustbench_coded.reports.render.terminal import comparison_table
    from robustbench_coded.runs.atomic import write_text

    comparison = compare(runs, baseline)
    beside = load("comparisons", "paper")(comparison.runs) if paper else ()
    written = [] if out is None else [(n, out / f"comparison.{ENDINGS[n]}") for n in chosen or ["md", "html"]]
    for name, file in written:
        write_text(file, comparison_document(comparison, name, beside))
        if not (quiet or as_json):
            print(one_line(f"comparison: {file}"))
    if as_json:
        print(json.dumps(comparison.as_data()))
    elif chosen and not written:
        print(comparison_document(comparison, chosen[0], beside), end="")
    elif not written:
        Console().print(comparison_table(comparison, beside))
    return 0


def _formats(text: str, known: Sequence[str]) -> list[str]:
    chosen = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in chosen:
        if name not in known:
            raise InputError(f"--format {name!r} is not known; choose from {', '.join(known)}")
    return chosen


def _refuse_file(out: Path | None) -> None:
    """Raises InputError if --out is a file or named like one, where a folder is to be written."""
    if out is None or out.is_dir():
        return
    if out.exists() or out.suffix[1:] in (*ENDINGS.values(), "pdf", "json"):
        raise InputError(f"--out {out} is a file; give a folder")
