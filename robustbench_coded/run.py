"""A run as Python has it: what the judge reads from its folder, shown, drawn and repeated."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from msgspec import to_builtins

from robustbench_coded.errors import in_python
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import RunData, load_manifest, verdict_line
from robustbench_coded.reports.run.examples import PerturbedExample, perturbed_examples
from robustbench_coded.schema.manifest import as_sentences
from robustbench_coded.schema.words import VerdictName


def load_run(path: str | Path) -> "Run":
    """Reads a run folder, finished or not.

    The folder may be untrusted: nothing in it is executed, and names in it never become paths. Tables are
    computed from the outcomes on first access, not read from summary.csv.

    Raises:
        InputError: not a run folder, or run.json is not usable.
    """
    return Run(Path(path), load_manifest(Path(path)))


@dataclass(frozen=True, eq=False)
class Run(RunData):
    """A run folder.

    Attributes:
        path: the folder.
        manifest: the content of run.json.
        again: of a run that `evaluate` returned: ``run.again(draws=20)`` repeats the evaluation in the same
            folder with changed arguments and returns the run.
        images: of a run that `evaluate` returned, the data set in memory; None if the run names its data.
    """

    again: "Callable[..., Run] | None" = None
    images: Any = None

    def plot(self, axes: Any = None) -> Any:
        """Draws the figure of the report's first screen and returns its matplotlib ``Axes``.

        Args:
            axes: to draw on; None for a new figure of pyplot, which a notebook shows.

        Raises:
            InputError: there is no verdict yet.
        """
        from robustbench_coded.reports.write import plot  # this imports matplotlib

        return plot(self, axes)

    def examples(self, count: int = 12) -> list[PerturbedExample]:
        """Images before and after the strongest attack, those first that lost most correct predictions.

        Each has ``clean``, ``perturbed`` and ``difference``, arrays [C, H, W] in [0, 1], and ``about``: its
        number, label, attack, and the predictions of the draws. The run needs ``save_adversarials=True``.

        Raises:
            InputError: no perturbed inputs are stored.
        """
        return perturbed_examples(self, count, self.images)

    def as_data(self) -> dict[str, Any]:
        """The run as JSON data: what ``--json`` prints."""
        return {
            "run": str(self.path),
            "finished": self.manifest.finished,
            "identity": to_builtins(self.manifest.identity),
            "summary": json.loads(self.summary.to_json(orient="records", double_precision=15)),
            "verdicts": [_judgement_data(judgement) for judgement in self.judgements],
            "failures": [{**f.case.as_columns(), "unit": f.unit, "error": f.error} for f in self.failures],
            "not_run": as_sentences(self.manifest.not_run),
            "outlook": to_builtins(self.manifest.outlook),
            "notes": list(self.manifest.notes),
        }

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __str__(self) -> str:
        """A line for each verdict, the reason at the first of a rule and where it is open, and the report."""
        lines, explained = [], set()
        for judgement in self.judgements:
            lines.append(str(judgement))
            rule = judgement.verdict.rule
            if judgement.verdict.name == VerdictName.NOT_SETTLED or rule not in explained:
                lines.append(f"  {judgement.verdict.reason}")
            explained.add(rule)
        text = "\n".join(lines or ["no verdict yet"])
        return f"{in_python(text) if self.again else text}\nreport: {self.path / 'report.html'}"

    def _repr_html_(self) -> str:
        """For notebooks: the verdicts with their reasons, the accuracies, and notes on the run."""
        verdicts = self.verdicts[["checkpoint", "defence", "threat", "eps", "verdict", "reason"]]
        table = self.summary[["checkpoint", "defence", "threat", "attack", "eps", "interval_kind"]].copy()
        table["accuracy"] = [
            "" if math.isnan(a) else f"{a:.1%}" if math.isnan(low) else f"{a:.1%} [{low:.1%}, {high:.1%}]"
            for a, low, high in zip(*(self.summary[name] for name in ("accuracy", "ci_low", "ci_high")))
        ]
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.manifest.notes)
        with pd.option_context("display.max_colwidth", None):
            shown = [t.to_html(index=False, na_rep="", max_rows=200) for t in (verdicts, table) if len(t)]
        return "".join(shown) + f"<ul>{notes}</ul>" * bool(notes)


def _judgement_data(judgement: Judgement) -> dict[str, Any]:
    """Its line of verdicts.csv, None where that is empty, and what no cell holds."""
    line = {name: None if value != value else value for name, value in verdict_line(judgement).items()}
    verdict = judgement.verdict
    more = {"rule": verdict.rule, "examples": judgement.examples, "attack": judgement.attack}
    return line | more | {"checks": to_builtins(verdict.checks)}
