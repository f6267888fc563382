"""The commands of ``csrobust``; each imports what it needs when it runs: ``--help`` answers at once."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from robustbench_coded.cli.commands import evaluation, inspection, runs
from robustbench_coded.cli.help import EXAMPLES, GroupedCommand, SharingCommand
from robustbench_coded.deleted import answer_to
from robustbench_coded.errors import InputError
from robustbench_coded.extensions import REINSTALL, all_of

# As `--help` lists them; what else is plugged in comes behind.
SECTIONS = {
    "Evaluate": ("eval", "screen", "plan", "sweep", "shift"),
    "Look": ("inspect", "list", "probe", "show", "compare", "verify"),
    "Publish": ("report", "export", "compact", "submit", "board"),
    "Reproduce": ("train", "ablate", "gan", "figure", "bench"),
}
ORDER = tuple(name for names in SECTIONS.values() for name in names)
PLAIN: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": None}


class WithPlugins(TyperGroup):
    """Commands that are plugged in are looked for where the core has none of that name, or for ``--help``."""

    def list_commands(self, ctx: Any) -> list[str]:
        self._plug_in()
        places = {name: place for place, name in enumerate(ORDER)}
        return sorted(self.commands, key=lambda name: (places.get(name, len(ORDER)), name))

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in self.commands:
            self._plug_in()
        if name not in self.commands:
            if name in ORDER:
                raise InputError(f"the command {name} is not installed; {REINSTALL}")
            if (answer := answer_to(name)) is not None:
                raise InputError(answer)
        return self.commands.get(name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands by what they are for; those of other packages behind."""
        names = self.list_commands(ctx)
        others = tuple(name for name in names if name not in ORDER)
        for title, section in {**SECTIONS, "Others": others}.items():
            lines = [(n, self.commands[n].get_short_help_str(70)) for n in section if n in self.commands]
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)

    def _plug_in(self) -> None:
        for name, loaded in all_of("commands").items():
            self.commands.setdefault(name, _plugged(name, loaded))


def _plugged(name: str, loaded: Any) -> Any:
    """A function, or an app of several, as a command."""
    if isinstance(loaded, typer.Typer):
        return typer.main.get_command(loaded)
    alone = typer.Typer(add_completion=False, **PLAIN)
    alone.command(name, cls=GroupedCommand, epilog="\n".join(getattr(loaded, "examples", ())))(loaded)
    return typer.main.get_command(alone)


# What other tools call an option.
SPELT = {"epsilon": "eps", "dataset": "data", "checkpoint": "ckpt", "batchsize": "batch-size"}


def _usual_spelling(name: str) -> str:
    """An option or a command as this command line has it: ``batch_size`` is ``batch-size``."""
    name = name.replace("_", "-")
    return SPELT.get(name, name)


app = typer.Typer(
    name="csrobust",
    cls=WithPlugins,
    help="Evaluates the adversarial robustness of randomised and batch-dependent defences.",
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _usual_spelling},
    **PLAIN,
)


def _add(name: str, command: Callable[..., int], *, shares: bool = False) -> None:
    """A command with its examples; ``shares``: its options are those of eval, and a few."""
    epilog = "\n".join(EXAMPLES[name])
    app.command(name, cls=SharingCommand if shares else GroupedCommand, epilog=epilog)(command)


_add("eval", evaluation.evaluate_command)
_add("plan", evaluation.plan_command, shares=True)
_add("sweep", evaluation.sweep_command, shares=True)
_add("screen", evaluation.screen_command, shares=True)
_add("compare", runs.compare_command)
_add("report", runs.report_command)
_add("export", runs.export_command)
_add("compact", runs.compact_command)
_add("show", runs.show_command)
_add("probe", inspection.probe_command, shares=True)
_add("inspect", inspection.inspect_command)
_add("list", inspection.list_command)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", "-V", help="Print the version and stop.", is_eager=True),
    debug: bool = typer.Option(
        False, "--debug", help="Print tracebacks of errors; accepted anywhere in the command line."
    ),
) -> None:
    if version:
        from robustbench_coded.version import __version__

        print(f"csrobust {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())
