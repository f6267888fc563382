"""The commands of ``csrobust``; each imports what it needs when it runs: ``--help`` answers at once."""

from collections.abc import Callable

import typer

from robustbench_coded.cli.commands import (
    ablate,
    bench,
    board,
    compact,
    compare,
    curve,
    eval_,
    export,
    figure,
    gan,
    inspect,
    listing,
    plan,
    probe,
    report,
    screen,
    shift,
    show,
    submit,
    sweep,
    tabular,
    train,
    verify,
    view,
)
from robustbench_coded.cli.examples import EXAMPLES
from robustbench_coded.cli.help import GroupedCommand, SharingCommand

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


_add("eval", eval_.evaluate_command)
_add("plan", plan.plan_command, shares=True)
_add("sweep", sweep.sweep_command, shares=True)
_add("curve", curve.curve_command, shares=True)
_add("screen", screen.screen_command, shares=True)
_add("shift", shift.shift_command)
_add("compare", compare.compare_command)
_add("report", report.report_command)
_add("export", export.export_command)
_add("compact", compact.compact_command)
_add("board", board.board_command)
_add("submit", submit.submit_command)
_add("show", show.show_command)
_add("view", view.view_command)
_add("train", train.train_command)
_add("ablate", ablate.ablate_command)
app.add_typer(figure.app, name="figure")
_add("gan", gan.gan_command)
_add("tabular", tabular.tabular_command)
_add("verify", verify.verify_command)
_add("probe", probe.probe_command, shares=True)
_add("bench", bench.bench_command)
_add("inspect", inspect.inspect_command)
_add("list", listing.list_command)


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
