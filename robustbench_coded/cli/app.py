"""The commands of ``csrobust``; each imports what it needs when it runs: ``--help`` answers at once."""

from collections.abc import Callable

import typer

from robustbench_coded.cli.commands import board, evaluation, figure, inspection, runs, studies, train
from robustbench_coded.cli.help import EXAMPLES, GroupedCommand, SharingCommand

app = typer.Typer(
    name="csrobust",
    help="Evaluates the adversarial robustness of randomised and batch-dependent defences.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _add(name: str, command: Callable[..., int], *, shares: bool = False) -> None:
    """A command with its examples; ``shares``: its options are those of eval, and a few."""
    epilog = "\n".join(EXAMPLES[name])
    app.command(name, cls=SharingCommand if shares else GroupedCommand, epilog=epilog)(command)


_add("eval", evaluation.evaluate_command)
_add("plan", evaluation.plan_command, shares=True)
_add("sweep", evaluation.sweep_command, shares=True)
_add("curve", evaluation.curve_command, shares=True)
_add("screen", evaluation.screen_command, shares=True)
_add("shift", studies.shift_command)
_add("compare", runs.compare_command)
_add("report", runs.report_command)
_add("export", runs.export_command)
_add("compact", runs.compact_command)
_add("board", board.board_command)
_add("submit", board.submit_command)
_add("show", runs.show_command)
_add("view", runs.view_command)
_add("train", train.train_command)
_add("ablate", studies.ablate_command)
app.add_typer(figure.app, name="figure")
_add("gan", studies.gan_command)
_add("tabular", studies.tabular_command)
_add("verify", board.verify_command)
_add("probe", inspection.probe_command, shares=True)
_add("bench", inspection.bench_command)
_add("inspect", inspection.inspect_command)
_add("list", inspection.list_command)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
    debug: bool = typer.Option(
        False, "--debug", help="Print tracebacks of errors; accepted anywhere in the command line."
    ),
) -> None:
    if version:
        from robustbench_coded.version import __version__

        print(f"csrobust {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())
