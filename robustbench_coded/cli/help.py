"""``--help`` in plain text: options in groups, shared ones described once, and examples to copy at the
end.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from typer.core import TyperCommand

F = TypeVar("F", bound=Callable[..., Any])

# Title -> options, by their names in Python, in the order of `--help`.
GROUPS: dict[str, tuple[str, ...]] = {
    "Models and defences": (
        "ckpt", "arch", "normalize", "guess", "rci", "coded", "defence", "standard",
        "baseline",
    ),
    "Data and batches": (
        "data", "corruptions", "severities", "data_dir", "limit", "all", "first",
        "batch_size", "state", "sequence_length",
    ),
    "Attacks": (
        "attacks", "norm", "eps", "eps_space", "inputs", "early_stop",
    ),
    "Draws and seed": ("draws", "selection_draws", "seed"),
    "Verdicts, claims, time": (
        "margin", "claim", "claim_attack", "claim_threat", "claim_eps", "claim_votes",
        "time", "until",
    ),
    "Hardware": (
        "device", "attack_precision", "threads", "workers", "engine",
    ),
    "Output": ("out", "overwrite", "save_adversarials", "quiet", "as_json", "help"),
}  # fmt: skip
_GROUP_OF = {name: title for title, names in GROUPS.items() for name in names}
OTHERS = "Options"
# What the parser calls a value, and what people call it.
_METAVARS = {"str": "TEXT", "Path": "PATH", "path": "PATH", "int": "N", "float": "NUMBER"}
_METAVAR = re.compile(rf"<(?:list\[)?({'|'.join(_METAVARS)})\]?>")


class GroupedCommand(TyperCommand):
    """A command whose options are in groups; its epilog is a list of examples, one a line."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title, records in self._grouped(ctx, list(self.get_params(ctx))):
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")

    def _grouped(self, ctx: Any, params: list[Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        titles = {param.name: _GROUP_OF.get(param.name, OTHERS) for param in params}
        for title in (OTHERS, *GROUPS):
            shown = [param for param in params if titles[param.name] == title]
            if title in GROUPS:
                shown.sort(key=lambda param: GROUPS[title].index(param.name))
            if records := [record for param in shown if (record := _record(param, ctx)) is not None]:
                yield title, records


class SharingCommand(GroupedCommand):
    """A command with the options of ``csrobust eval``: described there, and only named here."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        evaluation = ctx.parent.command.commands["eval"] if ctx.parent is not None else ctx.command
        as_in_eval = {param.name: param for param in evaluation.get_params(ctx)}
        params: list[Any] = list(self.get_params(ctx))
        alike = ((p, as_in_eval.get(p.name)) for p in params)
        own = [p for p, e in alike if e is None or (p.help, p.default) != (e.help, e.default)]
        for _, records in self._grouped(ctx, [p for p in own if p.name not in _GROUP_OF]):
            with formatter.section("Options of its own"):
                formatter.write_dl(records)
        if changed := [_record(p, ctx) for p in own if p.name in _GROUP_OF]:
            with formatter.section("Options of `csrobust eval` that differ here"):
                formatter.write_dl([record for record in changed if record is not None])
        rest = {p.name: p.opts[0] for p in params if p not in own}
        with formatter.section("Options that `csrobust eval --help` describes"):
            rows = [
                (title, ", ".join(rest[n] for n in names if n in rest)) for title, names in GROUPS.items()
            ]
            formatter.write_dl([(title, flags) for title, flags in rows if flags])


def _record(param: Any, ctx: Any) -> tuple[str, str] | None:
    """How an option is written and what it does; values are TEXT, PATH, N or NUMBER."""
    record = param.get_help_record(ctx)
    if record is None:
        return None
    written, described = record
    return _METAVAR.sub(lambda match: _METAVARS[match[1]], written), described


def examples(*lines: str) -> Callable[[F], F]:
    """Sets the examples to copy of a command that is plugged in."""

    def with_examples(command: F) -> F:
        command.examples = lines  # type: ignore[attr-defined]
        return command

    return with_examples


# Of the commands that are not plugged in.
EXAMPLES = {
    "eval": (
        "csrobust eval --ckpt model.pt --rci N=190",
        "csrobust eval --ckpt digits-erm --data digits --rci N=1.5K --limit 640",
        "csrobust eval --ckpt erm=a.pt --ckpt mixup=b.pt --rci N=128 --attacks paper,transfer-pgd-20",
        "csrobust eval --ckpt model.pt --rci N=190 --eps 0,2/255,4/255,8/255",
        "csrobust eval reports/mine/run.toml --limit 1280 --out reports/more",
        "csrobust eval --ckpt model.pt --defence my_defence:build --claim 72% --claim-attack pgd-10",
    ),
    "plan": ("csrobust plan --ckpt model.pt --rci N=190 --limit 640",),
    "sweep": ("csrobust sweep --ckpt model.pt --batch-size 8,16,32,64,128 --rci N=1.5K",),
    "screen": ("csrobust screen --ckpt model.pt --rci N=190",),
    "compare": (
        "csrobust compare reports/mine reports/other",
        "csrobust compare reports/mine --baseline standard --format md,html,csv,latex --out comparison",
    ),
    "export": (
        "csrobust export reports/mine --to robustbench --out model_info",
        "csrobust export reports/mine --to latex --attacks clean,pgd-10,ensemble",
    ),
    "report": ("csrobust report reports/mine",),
    "compact": ("csrobust compact reports/mine",),
    "show": ("csrobust show reports/mine", "csrobust show reports/mine --example 5"),
    "probe": ("csrobust probe --ckpt model.pt --defence my_defence:build",),
    "inspect": ("csrobust inspect model.pt",),
    "list": ("csrobust list attacks", "csrobust list checkpoints", "csrobust list runs reports"),
}
