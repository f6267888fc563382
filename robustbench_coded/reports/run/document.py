"""All that a report says, before anybody chooses a format."""

from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_coded.reports.run.certified import certified_text_table
from robustbench_coded.reports.run.claim import claim_answers
from robustbench_coded.reports.run.collateral import collateral_findings, collateral_text_table
from robustbench_coded.reports.run.findings import peers_own_figures, without_design
from robustbench_coded.reports.run.headline import headline
from robustbench_coded.reports.run.hidden_gradients import hidden_gradients
from robustbench_coded.reports.run.matrix import matrix_text_table
from robustbench_coded.reports.run.methodology import Fact, limits_of, methodology_of
from robustbench_coded.reports.run.selftest_table import selftest_count_table, selftest_table
from robustbench_coded.reports.run.stops import stops_legend, stops_text_table
from robustbench_coded.reports.run.tables import Table, tables_of
from robustbench_coded.reports.run.text_tables import component_text_table
from robustbench_coded.reports.run.undercuts import undercut_text, undercuts
from robustbench_coded.reports.run.worst import WorstExample, worst_examples
from robustbench_coded.reports.text.escape import shell
from robustbench_coded.reports.text.formatting import counted, subject_text
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run
from robustbench_coded.statistics.summary import SummaryRow

LEGEND = (
    "Accuracy in percent on fresh draws of the defence, with its pointwise 95% interval. Bold: the "
    "strongest single attack of its threat model; no entry is bold where it is inherited from an attacker "
    "with less knowledge. ensemble: the strongest attack for each example, or for each batch where inputs "
    "are answered together, chosen on selection draws and scored on other draws. It includes the attacks "
    "of attackers with less knowledge."
)
PAPER_LEGEND = (
    "paper: the number in arXiv 2510.00253 for the same setting, measured there on another network; see "
    "'How this was measured'."
)


@dataclass(frozen=True)
class Document:
    """The parts of a report, as texts that still have to be escaped."""

    title: str
    opening: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]
    judgements: tuple[Judgement, ...]
    findings: tuple[str, ...]
    facts: tuple[Fact, ...]
    limits: tuple[str, ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    components: TextTable
    matrix: TextTable
    collateral: TextTable
    certified: TextTable
    selftests: tuple[TextTable, TextTable]
    stops: TextTable
    stops_legend: str
    worst: tuple[WorstExample, ...]
    lines: tuple[SummaryRow, ...]
    commands: tuple[str, ...]
    legend: str = LEGEND
    paper_legend: str = PAPER_LEGEND


def document_of(run: Run) -> Document:
    """The report of a run."""
    tables = tables_of(run)
    undercut = undercuts(run)
    claims, answer = claim_answers(run), headline(run.judgements, undercut, run.words_together)
    rows = run.rows
    return Document(
        title=f"csrobust report: {run.name}",
        opening=(
            *_mismatches(run),
            *opens_with(run, claims, answer),
            *answer[1:],
            *_evidence(run),
        ),
        warnings=tuple(_warnings(run)),
        tables=tuple(tables),
        judgements=run.judgements,
        findings=(
            *map(undercut_text, undercut),
            *without_design(run),
            *collateral_findings(rows),
            *peers_own_figures(run),
        ),
        facts=tuple(methodology_of(run, paper=any(table.has_paper for table in tables))),
        limits=tuple(limits_of(run)),
        failures=tuple(_failures(run)),
        notes=tuple(run.manifest.notes),
        components=component_text_table(run),
        matrix=matrix_text_table(rows, [table.budget for table in tables]),
        collateral=collateral_text_table(rows),
        certified=certified_text_table(run.certified),
        selftests=(selftest_count_table(run.selftests), selftest_table(run.selftests)),
        stops=stops_text_table(run.manifest.sequential, run.judgements),
        stops_legend=stops_legend(run.manifest.sequential),
        worst=tuple(worst_examples(run)),
        lines=tuple(rows),
        commands=tuple(commands_of(run)),
    )


def opening_of(run: Run) -> tuple[str, ...]:
    """What a reader at a terminal is told first: the first sentence of the report and what qualifies it."""
    answer = headline(run.judgements, undercuts(run), run.words_together)
    return (*_mismatches(run), *opens_with(run, claim_answers(run), answer), *_evidence(run))


def opens_with(run: Run, claims: Sequence[str], answer: Sequence[str]) -> list[str]:
    """The claim, if there is one; where an earlier command stated it, what the last one found comes first."""
    if not claims:
        return list(answer[:1])
    return list(claims) if run.manifest.last.claim is not None else [*answer[:1], *claims]


def _evidence(run: Run) -> list[str]:
    """Where a refuted claim can be checked without this project."""
    if not (run.path / "evidence" / "refute.py").is_file():
        return []
    return ["evidence/refute.py reproduces this with torch and numpy alone."]


def _mismatches(run: Run) -> list[str]:
    """What was evaluated although its network is not what it is taken for, in one sentence a checkpoint."""
    said = []
    for checkpoint in run.manifest.checkpoints:
        found = checkpoint.recognition.get("contradictions")
        if isinstance(found, list) and found:
            said.append(
                f"Evaluated with --accept-mismatch, so the figures may be those of another network: "
                f"{checkpoint.name}: {'; '.join(str(clause) for clause in found)}."
            )
    return said


def _warnings(run: Run) -> list[str]:
    said = []
    if not run.manifest.finished:
        said.append("The run was stopped before its end; the same command resumes it.")
    if run.failures:
        said.append(
            f"{counted(len(run.failures), 'unit')} of the run without outcomes, so some rows are incomplete. "
            "Missing outcomes are not counted in any accuracy. The command that planned them computes them; "
            "all commands of this folder stand under 'Run it again'."
        )
    return said + hidden_gradients(run.manifest)


def _failures(run: Run) -> list[str]:
    """One sentence per row and reason."""
    units: dict[tuple, int] = {}
    for failure in run.failures:
        key = failure.key
        units[key, failure.error] = units.get((key, failure.error), 0) + 1
    sentences = []
    for (key, error), count in units.items():
        subject = subject_text(key.subject, with_k=True)
        sentences.append(f"{key.attack} under {key.threat} on {subject}: {counted(count, 'unit')}, {error}")
    return sentences


def commands_of(run: Run) -> list[str]:
    """The commands that made this folder, each once, in their order."""
    found: dict[str, None] = {}
    for invocation in run.manifest.invocations:
        if invocation.command:
            found[shell(list(invocation.command))] = None
    return list(found)
