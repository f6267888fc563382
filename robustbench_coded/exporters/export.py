"""``export(run, name, out)``: writes a run in the format of another tool."""

from collections.abc import Callable
from pathlib import Path

from robustbench_coded.errors import InputError
from robustbench_coded.exporters.robustbench import model_info
from robustbench_coded.exporters.tables import latex_tables, parquet_tables
from robustbench_coded.exporters.tracking import log_to_mlflow, log_to_wandb
from robustbench_coded.results.run import Run, load_run

EXPORTERS: dict[str, Callable[[Run, Path], list[Path]]] = {
    "wandb": log_to_wandb,
    "mlflow": log_to_mlflow,
    "robustbench": model_info,
    "parquet": parquet_tables,
    "latex": latex_tables,
}


def export(path: str | Path, name: str, out: str | Path) -> list[Path]:
    """Writes a run in another format.

    Args:
        path: the run folder.
        name: one of `EXPORTERS`.
        out: a folder; it is made if there is none.

    Returns:
        the files written, or the folder of the tracking tool.

    Raises:
        InputError: not a run folder, an unknown name, or a package that is not installed.
    """
    if name not in EXPORTERS:
        raise InputError(f"--to {name!r} is not known; choose from {', '.join(EXPORTERS)}")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    run = load_run(path)
    if run.verdicts.empty:
        raise InputError(f"{path} has no verdict yet; run its evaluation first")
    out.mkdir(parents=True, exist_ok=True)
    return EXPORTERS[name](run, out)
