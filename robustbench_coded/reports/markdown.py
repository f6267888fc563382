"""report.md: the tables and what stands under them, for a repository."""

from collections.abc import Sequence

from robustbench_coded.reports.document import Document
from robustbench_coded.reports.escape import markdown, markdown_block
from robustbench_coded.reports.judge import Judgement
from robustbench_coded.reports.lines import Line
from robustbench_coded.reports.tables import Cell, Column, Table
from robustbench_coded.reports.words import (
    budget_words,
    difference_words,
    inference_words,
    interval,
    percent,
    subject_words,
)


def markdown_report(document: Document) -> str:
    """A whole report in GitHub's Markdown."""
    parts = [f"# {markdown(document.title)}", *[markdown(line) for line in document.opening]]
    if document.warnings:
        parts.append(_bullets(document.warnings))
    if document.judgements:
        parts += ["## Verdicts", _verdicts(document.judgements)]
    for table in document.tables:
        parts += [f"## {markdown(table.title)}", markdown_table(table), markdown(document.legend)]
        if table.has_paper:
            parts.append(markdown(document.paper_legend))
    if document.findings:
        parts += ["## What the stronger attacks found", _bullets(document.findings)]
    parts += [
        "## How this was measured",
        _facts(document),
        "## What these tables do not prove",
        _bullets(document.limits),
    ]
    if document.failures:
        parts += ["## What did not run", _bullets(document.failures)]
    if document.notes:
        parts += ["## Notes", _bullets(document.notes)]
    if document.judgements:
        parts += ["## Checks", _checks(document.judgements)]
    parts += ["## Every row", _every_row(document.lines)]
    if document.commands:
        parts += ["## Run it again", "\n\n".join(markdown_block(command) for command in document.commands)]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A table with the strongest attack of each threat model in bold."""
    lines = [[*table.heads, *(_head(column) for column in table.columns)]]
    lines.append([*[":--"] * len(table.heads), *["--:"] * len(table.columns)])
    for row in table.rows:
        lines.append([*(markdown(label) for label in row.labels), *(_cell(cell) for cell in row.cells)])
    return _rows(lines)


def _head(column: Column) -> str:
    title = markdown(column.attack)
    return (
        title
        if column.attack in ("clean", "random-sign")
        else f"{title}<br><sub>{markdown(column.threat)}</sub>"
    )


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    line = cell.line
    text = f"**{percent(line.accuracy)}**" if cell.strongest else percent(line.accuracy)
    small = interval(line.low, line.high)
    shown = [text + (f" <sub>{small}</sub>" if small else "")]
    if not line.done:
        shown.append(f"<sub>incomplete: {line.examples} of {line.examples_planned}</sub>")
    if cell.difference is not None:
        shown.append(f"<sub>{difference_words(cell.difference)}</sub>")
    if cell.paper is not None:
        shown.append(f"<sub>paper {percent(cell.paper)}</sub>")
    return "<br>".join(shown)


def _verdicts(judgements: Sequence[Judgement]) -> str:
    table = [["Inference", "Checkpoint", "Threat", "Budget", "Verdict", "Why"], [":--"] * 6]
    for judged in judgements:
        names = (inference_words(judged.subject, with_k=True), judged.subject.checkpoint, judged.threat)
        why = (budget_words(judged.budget), judged.verdict.word, judged.verdict.reason)
        table.append([markdown(text) for text in (*names, *why)])
    return _rows(table)


def _checks(judgements: Sequence[Judgement]) -> str:
    """Checks that did not pass in full, those that passed by name."""
    parts = []
    for judged in judgements:
        subject = subject_words(judged.subject, with_k=True)
        lines = [f"**{markdown(f'{subject}, {judged.threat}, {budget_words(judged.budget)}')}**", ""]
        for check in judged.checks:
            if check.outcome != "passed":
                step = f" Next: {check.next_step}." if check.next_step else ""
                lines.append(f"- {check.outcome}: {check.name}. {markdown(check.finding + step)}")
        passed = [check.name for check in judged.checks if check.outcome == "passed"]
        lines.append(f"- passed: {', '.join(passed) or 'none'}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _every_row(lines: Sequence[Line]) -> str:
    head = (
        "Checkpoint, Inference, Threat, Attack, Budget, Examples, Draws, Accuracy, Majority, Every draw, "
        "Clean, Forwards, Backwards, Status"
    )
    table = [head.split(", "), [":--"] * 5 + ["--:"] * 8 + [":--"]]
    for line in lines:
        texts = [
            line.subject.checkpoint,
            inference_words(line.subject, with_k=True),
            line.threat,
            line.attack,
            "" if line.attack == "clean" else budget_words(line.budget),
            f"{line.examples} of {line.examples_planned}",
            str(line.draws),
            f"{percent(line.accuracy)} {interval(line.low, line.high)}".strip(),
            *(percent(value) for value in (line.majority, line.every_draw, line.clean_accuracy)),
            *("–" if value is None else f"{value:g}" for value in (line.forwards, line.backwards)),
            "done" if line.done else "incomplete",
        ]
        table.append([markdown(text) for text in texts])
    return f"<details><summary>{len(lines)} rows, as in summary.csv</summary>\n\n{_rows(table)}\n\n</details>"


def _facts(document: Document) -> str:
    return "\n".join(f"- **{fact.about}.** {markdown(fact.text)}" for fact in document.facts)


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {markdown(text)}" for text in texts)


def _rows(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
