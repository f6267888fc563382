"""The commands of ``csrobust``; each imports what it needs when it runs: ``--help`` answers at once."""

import typer

from robustbench_coded.cli.commands import (
    ablate,
    bench,
    compare,
    curve,
    eval_,
    figure,
    inspect,
    listing,
    plan,
    probe,
    report,
    screen,
    show,
    sweep,
    train,
    verify,
)

app = typer.Typer(
    name="csrobust",
    help="Attacks defences that are random or answer in batches; says what was tried and how far it got.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("eval")(eval_.evaluate_command)
app.command("plan")(plan.plan_command)
app.command("sweep")(sweep.sweep_command)
app.command("curve")(curve.curve_command)
app.command("screen")(screen.screen_command)
app.command("compare")(compare.compare_command)
app.command("report")(report.report_command)
app.command("show")(show.show_command)
app.command("train")(train.train_command)
app.command("ablate")(ablate.ablate_command)
app.add_typer(figure.app, name="figure")
app.command("verify")(verify.verify_command)
app.command("probe")(probe.probe_command)
app.command("bench")(bench.bench_command)
app.command("inspect")(inspect.inspect_command)
app.command("list")(listing.list_command)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    if version:
        from robustbench_coded import __version__

        print(f"csrobust {__version__}")
        raise typer.Exit
