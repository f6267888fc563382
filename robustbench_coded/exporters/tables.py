"""A run as parquet files for pandas, and as LaTeX tables for a document that loads booktabs."""

from pathlib import Path

from robustbench_coded.reports.compare.comparison import compare
from robustbench_coded.reports.render.latex import comparison_latex
from robustbench_coded.results.run import Run
from robustbench_coded.runs.atomic import write_text


def parquet_tables(run: Run, out: Path) -> list[Path]:
    """summary, verdicts and all outcomes; the columns of docs/run-folder.md, accuracies as fractions."""
    frames = {"summary": run.summary, "verdicts": run.verdicts, "outcomes": run.outcomes}
    files: list[Path] = []
    for name, frame in frames.items():
        files.append(out / f"{name}.parquet")
        frame.to_parquet(files[-1], index=False)
    return files


def latex_tables(run: Run, out: Path) -> list[Path]:
    """One table environment per budget, each subject with its paired difference from standard inference."""
    file = out / "tables.tex"
    write_text(file, comparison_latex(compare([run.path])))
    return [file]
