"""``csrobust show``, ``report``, ``compare``, ``export`` and ``compact``: what is done with run folders."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_coded.cli.options import AsJson, RunFolder, RunFolders
from robustbench_coded.errors import InputError
from robustbench_coded.extensions import load, points_of
from robustbench_coded.reports.text.escape import one_line


def show_command(
    run: RunFolder,
    example: Annotated[int | None, typer.Option("--example", help="One example, by its number.")] = None,
    as_json: AsJson = False,
) -> int:
    """Show a run, or all answers to one of its examples."""
    from rich.console import Console

    from robustbench_coded.judge.run import load_run
    from robustbench_coded.reports.render.terminal import example_table, result
    from robustbench_coded.reports.run.examples import example_text_table

    loaded = load_run(run)
    if example is None:
        if as_json:
            print(json.dumps(loaded.as_data()))
        else:
            Console().print(result(loaded))
        return 0
    sheet = example_text_table(loaded, example)
    if as_json:
        rows = [dict(zip(map(str.lower, sheet.heads), row, strict=True)) for row in sheet.rows]
        print(json.dumps({"run": str(run), "example": example, "rows": rows}))
    else:
        Console().print(example_table(f"example {example} of {loaded.name}", sheet))
    return 0


def report_command(
    run: RunFolder,
    title: Annotated[
        str, typer.Option("--title", help="Title of the report; default: the folder's name.")
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the report and print nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write the report of a run again from its files."""
    from rich.console import Console

    from robustbench_coded.judge.run import load_run
    from robustbench_coded.reports.render.terminal import result
    from robustbench_coded.reports.write import write_reports

    if (kind := _kind_of(run)) is not None:
        return kind.report(run, quiet=quiet, as_json=as_json)
    write_reports(run, title)
    if as_json:
        print(json.dumps(load_run(run).as_data()))
    elif not quiet:
        Console().print(result(load_run(run)))
        print(one_line(f"report: {run / 'report.md'}"))
    return 0


ENDINGS = {"md": "md", "html": "html", "csv": "csv", "latex": "tex"}


def compare_command(
    runs: RunFolders,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="Run, checkpoint or defence to compare with; default: the first run.",
        ),
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(ENDINGS)}; several with --out.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also compare with the numbers of arXiv 2510.00253.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write comparison.md ... to.")] = None,
    as_json: AsJson = False,
) -> int:
    """Compare runs by paired differences.

    Differences are paired where runs share batches and draws. Settings that differ between runs are listed.
    """
    chosen = _formats(formats, out)
    if (other := next((run for run in runs if _kind_of(run) is not None), None)) is not None:
        raise InputError(
            f"{other} is no run of csrobust eval; to compare checkpoints under shift, name all of them in "
            "one command of csrobust shift"
        )
    from robustbench_coded.reports.compare.comparison import compare

    comparison = compare(runs, baseline)
    written = [] if out is None else [(n, out / f"comparison.{ENDINGS[n]}") for n in chosen or ["md", "html"]]
    for name, file in written:
        from robustbench_coded.runs.atomic import write_text

        write_text(file, _document(comparison, name, paper=paper))
    if as_json:
        print(json.dumps(comparison.as_data()))
    elif chosen and not written:
        print(_document(comparison, chosen[0], paper=paper), end="")
    elif not written:
        _show(comparison, paper=paper)
    if not as_json:
        for _, file in written:
            print(one_line(f"comparison: {file}"))
    return 0


def _formats(text: str | None, out: Path | None) -> list[str]:
    chosen = list(dict.fromkeys(part.strip() for part in text.split(","))) if text is not None else []
    for name in chosen:
        if name not in ENDINGS:
            raise InputError(f"--format {name!r} is not known; choose from {', '.join(ENDINGS)}")
    if len(chosen) > 1 and out is None:
        raise InputError(f"--format {text} is several files; say where to with --out")
    _refuse_file(out)
    return chosen


def _refuse_file(out: Path | None) -> None:
    """Raises InputError if --out is a file or named like one, where a folder is to be written."""
    if (
        out is not None
        and not out.is_dir()
        and (out.exists() or out.suffix[1:] in (*ENDINGS.values(), "pdf", "json"))
    ):
        raise InputError(f"--out {out} is a file; give a folder")


def _kind_of(run: Path) -> Any:
    """What an extension does with a folder that it wrote: ``NAME.json`` lies there. None for any other."""
    return next((load("runs", name) for name in points_of("runs") if (run / f"{name}.json").is_file()), None)


def _document(comparison: Any, name: str, *, paper: bool) -> str:
    from robustbench_coded.reports.render.comparison import comparison_document

    return comparison_document(comparison, name, _beside_paper(comparison) if paper else ())


def _show(comparison: Any, *, paper: bool) -> None:
    from rich.console import Console

    from robustbench_coded.reports.render.terminal import comparison_table

    Console().print(comparison_table(comparison, _beside_paper(comparison) if paper else ()))


def _beside_paper(comparison: Any) -> Any:
    return load("comparisons", "paper")(comparison.runs)


def export_command(
    run: RunFolder,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="robustbench or every-eval-ever (JSON), parquet, or latex (tables, and figures as PDF).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("exports"),
    attacks: Annotated[
        str | None,
        typer.Option("--attacks", help="Columns of the LaTeX table: clean,pgd-10,'ensemble batch/unknown'."),
    ] = None,
) -> int:
    """Write a run in the format of another tool."""
    from robustbench_coded.judge.run import load_run

    if to not in points_of("exporters"):
        raise InputError(f"--to {to!r} is not known; choose from {', '.join(points_of('exporters'))}")
    _refuse_file(out)
    if attacks is not None and to != "latex":
        raise InputError(f"--attacks chooses columns of --to latex; --to {to} writes all attacks")
    loaded = load_run(run)
    if loaded.verdicts.empty:
        raise InputError(f"{run} has no verdict yet; run its evaluation first")
    chosen = [] if attacks is None else [[name.strip() for name in attacks.split(",")]]
    out.mkdir(parents=True, exist_ok=True)
    for file in load("exporters", to)(loaded, out, *chosen):
        print(one_line(f"{to}: {file}"))
    return 0


def compact_command(
    runs: RunFolders,
) -> int:
    """Pack the files of a finished run into three.

    Outcomes, timings and self-tests go into a file each. The run can still be extended.
    """
    from robustbench_coded.runs.folder import RunFolder, read_manifest
    from robustbench_coded.runs.outcomes import pack

    for path in runs:
        read_manifest(path)
        with RunFolder(path) as folder:
            print(one_line(f"{path}: {pack(folder.path)} units in {path / 'outcomes' / 'packed.parquet'}"))
    return 0
