"""Every interval says what it is about, and every format prints the same one for the same cell."""

import csv
import io
import itertools
import re
from html.parser import HTMLParser

import msgspec
import pytest
from rich.console import Console

from robustbench_coded.cli.main import main
from robustbench_coded.extras.board.entry import Board
from robustbench_coded.judge.paired import Difference
from robustbench_coded.reports.compare.comparison import compare
from robustbench_coded.reports.render.comparison import comparison_document
from robustbench_coded.reports.render.latex import latex_table
from robustbench_coded.reports.render.terminal import summary_table
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.reports.run.verdict_tables import shown_rows
from robustbench_coded.reports.text.formatting import MARKS, difference_text, inference_text, kinds_text
from robustbench_coded.reports.write import write_reports
from robustbench_coded.run import load_run
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.words import IntervalKind
from tests.reports.conftest import ACCURACIES, Invented, write_invented
from tests.reports.conftest import Subject as Attacked

# One subject of each kind: its intervals of whole batches are for the population, it has none, they are for
# the evaluated images, and of a random defence that answers its inputs one by one again for the population.
SUBJECTS = (
    Attacked("erm"),
    Attacked("erm", "rci", 32, 32),
    Attacked("erm", "rci", 32, 48, random_batches=60),
    Attacked("erm", "noise"),
)
WHOLE, VICTIMS = "batch/unknown", "victim/unknown"
INFERENCES = ("Standard inference", "RCI (N = 32)", "RCI (N = 48)", "noise")
CELL = re.compile(r"\W*([\d.]+)(?:\W*(\[[\d.]+, [\d.]+\])(†?))?")
TITLES = {
    "Clean": ("clean", WHOLE),
    "FGSM": ("fgsm", WHOLE),
    "PGD-10": ("pgd-10", WHOLE),
    "PGD-100": ("pgd-100", WHOLE),
    "EOT-PGD-20 (10 draws)": ("eot10-pgd-20", WHOLE),
    "Transfer PGD-20": ("transfer-pgd-20", WHOLE),
    "Worst case": ("ensemble", WHOLE),
    "PGD-10, order or draw known": ("aware-pgd-10", "batch/known"),
    "Strongest other, order or draw known": ("strongest", "batch/known"),
    "Worst case, order or draw known": ("ensemble", "batch/known"),
}
LEGENDS = (
    "Unmarked intervals are for the population (the data distribution).",
    "Intervals marked † are for the evaluated images.",
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The folder of a run that mixes rows of all kinds, with its reports."""
    path = tmp_path_factory.mktemp("mixed") / "run"
    accuracies = ACCURACIES | {("pgd-100", WHOLE): (0.0, 0.2)}
    write_invented(path, Invented(subjects=SUBJECTS, accuracies=accuracies))
    write_reports(path)
    return path


@pytest.fixture(scope="module")
def expected(mixed):
    """(inference, attack, threat) -> accuracy, interval and its mark, from summary.csv."""
    return dict(of_records(csv.DictReader((mixed / "summary.csv").open())))


def of_records(records):
    """Cells of what has the columns of summary.csv: as attacked, with the interval of the same figure."""
    for line in records:
        if line["accuracy"] in ("", None) or line["threat"] == VICTIMS:
            continue
        n = int(float(line["n"])) if line["n"] not in ("", None) else None
        inference = inference_text(Subject("erm", line["defence"], None, n))
        own, ends, mark = line["own_accuracy"], "", ""
        if own in ("", None) and line["interval_kind"]:
            ends = f"[{100 * float(line['ci_low']):.1f}, {100 * float(line['ci_high']):.1f}]"
            mark = MARKS[IntervalKind(line["interval_kind"])]
        figure = line["accuracy"] if own in ("", None) else own
        yield (inference, line["attack"], line["threat"]), (f"{100 * float(figure):.1f}", ends, mark)


def of_text(inference, head, text):
    """The cell of a table whose column has an attack's title; differences stand under other heads."""
    found = CELL.match(re.sub(r"</?sub>|\\|\*", "", text))
    title = head.replace("\\", "").replace("\N{NON-BREAKING HYPHEN}", "-")
    known = found and title in TITLES
    return [((inference, *TITLES[title]), tuple(t or "" for t in found.groups()))] if known else []


def of_markdown(text):
    for table in re.findall(r"(?m)^\| Defence \| Network .*\n(?:\|.*\n)+", text)[:1]:  # of whole batches
        head, _, *lines = (line.strip("| \n").split(" | ") for line in table.splitlines())
        for line in lines:
            for name, cell in zip(head[2:], line[2:], strict=False):
                yield from of_text(line[0], name, cell)


class Pivot(HTMLParser):
    """The cells of tables of accuracies of a page."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.inside, self.head, self.labels, self.text = [], False, "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "table":
            self.inside = found.get("class") == "pivot" and not self.cells  # that of whole batches
        if tag == "tr":
            self.labels = []
        if tag in ("td", "th"):
            self.head, self.text = found.get("data-head") or "", ""

    def handle_data(self, data):
        self.text += data.replace("\xa0", " ")  # lines do not end inside N = 128

    def handle_endtag(self, tag):
        if self.inside and tag == "th":
            self.labels.append(self.text)
        if self.inside and tag == "td" and self.head:
            self.cells += of_text(self.labels[0], self.head, " ".join(self.text.split()))


def of_terminal(shown):
    console = Console(file=io.StringIO(), width=1000)
    console.print(shown)
    lines, heads, ends = console.file.getvalue().partition("Accuracy under")[2].splitlines(), [], []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        ends = [place.end() for place in re.finditer("─+", below)] or ends  # a line under each title
        cells = [line[start:end].strip() for start, end in itertools.pairwise([0, *ends])]
        if heads and not line.strip():
            return  # the end of the table of whole batches
        if "─" in below:
            heads = cells
        elif heads and "─" not in line:
            for head, cell in zip(heads[1:], cells[1:], strict=True):
                yield from of_text(cells[0], head, cell)


def of_latex(table):
    """A column at a time: intervals stand below their accuracies, in the order of the rows."""
    for place, column in enumerate(table.columns):
        text = latex_table(table, [f"{column.attack} {column.threat}"])
        text = text.partition(r"\midrule")[2].replace(r"\dag{}", "†").replace("{[}", "[")
        values = re.findall(r"& (?:\\textbf{)?([\d.]+)}? \\\\", text)
        ends = re.findall(r"(\[[\d.]+, [\d.]+\])(†?)", text)
        found = iter(ends)
        for row, value in zip([row for row in table.rows if row.cells[place].figure], values, strict=True):
            bracket = len(row.cells[place].texts(table)) > 1 and not row.cells[place].attack
            yield (
                (row.labels[0], column.attack, str(column.threat)),
                (value, *(next(found) if bracket else ("", ""))),
            )


def of_lines(lines):
    """Cells of what has the names of `csrobust compare --json`."""
    for line in lines:
        own = re.findall(r"\d[\d.e-]*", str(line["own"]))[:1]
        yield from of_records(
            [{**line, "ci_low": line["low"], "ci_high": line["high"], "own_accuracy": "".join(own)}]
        )


FORMATS = {
    "report.md": lambda path: of_markdown((path / "report.md").read_text()),
    "report.html": lambda path: Pivot((path / "report.html").read_text()).cells,
    "json": lambda path: of_records(load_run(path).as_data()["summary"]),
    "latex": lambda path: of_latex(tables_of(load_run(path))[0]),
    "terminal": lambda path: of_terminal(summary_table(load_run(path))),
    "comparison.md": lambda path: of_markdown(comparison_document(compare([path]), "md")),
    "comparison.html": lambda path: Pivot(comparison_document(compare([path]), "html")).cells,
    "comparison.json": lambda path: of_lines(compare([path]).as_data()["accuracies"]),
    "comparison.csv": lambda path: of_lines(
        csv.DictReader(io.StringIO(comparison_document(compare([path]), "csv")))
    ),
}


def test_the_run_mixes_rows_of_all_kinds(mixed):
    kinds = {row.subject.n: row.interval_kind for row in load_run(mixed).rows if row.attack == "pgd-10"}
    assert kinds == {None: "population", 32: None, 48: "evaluated images"}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_prints_the_same_figure_as_attacked_with_its_own_interval(name, mixed, expected):
    found = dict(FORMATS[name](mixed))
    assert {key: (cell, expected.get(key)) for key, cell in found.items() if cell != expected.get(key)} == {}
    # Whole batches have none, answers one by one have that of the population.
    assert {mark for _, _, mark in found.values()} == {""}
    bounded = {inference for (inference, *_), cell in found.items() if cell[1]}
    assert bounded == {"Standard inference", "noise"}
    columns = {key[1:] for key in found}
    assert columns >= {*TITLES.values()} and len(found) >= 30


def test_the_page_of_a_board_s_entry_has_the_intervals_of_the_summary(mixed, tmp_path):
    expected = {
        (inference_text(row.subject), row.attack, str(row.threat)): (
            f"{100 * row.accuracy:.1f}",
            f"[{100 * row.low:.1f}, {100 * row.high:.1f}]",
            MARKS[row.interval_kind],
        )
        for row in load_run(mixed).rows
        if row.interval_kind
    }
    assert main(["board", str(mixed), "--out", str(tmp_path)]) == 0
    found, page = {}, (tmp_path / "index.html").read_text()
    for entry in msgspec.json.decode((tmp_path / "board.json").read_bytes(), type=Board).entries:
        inference = f"RCI (N = {entry.n})"
        section = page.partition(f'<details id="{entry.id}">')[2].partition("</details>")[0]
        for threat, rows in re.findall(r"(?s)<h4>(\S+/\S+)</h4>\s*<dl>(.*?)</dl>", section):
            for attack, text in re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", rows):
                if (cell := CELL.match(text)) and cell[2]:
                    found[inference, attack, threat] = cell.groups()
        shown = expected.get((inference, "ensemble", entry.threat), ("", "", ""))
        assert shown[2] == MARKS[entry.ensemble.kind]
    assert len(found) >= 9 and found.items() <= expected.items()


def test_a_legend_names_what_is_there():
    assert (
        kinds_text([IntervalKind.POPULATION]) == "Intervals are for the population (the data distribution)."
    )
    assert kinds_text([IntervalKind.EVALUATED_IMAGES, None]) == LEGENDS[1]
    assert kinds_text(list(IntervalKind)) == " ".join(LEGENDS)
    assert kinds_text([]) == ""


def test_the_tables_end_with_the_kinds_where_the_contract_has_them(mixed):
    summary, verdicts = ((mixed / f"{name}.csv").read_text().splitlines() for name in ("summary", "verdicts"))
    assert ",backwards_per_example,status,interval_kind," in summary[0]
    assert ",open_checks,reason,interval_kind,gain_interval_kind,gain_examples" in verdicts[0]
    found = {
        (line["defence"], line["n"]): (line["interval_kind"], line["gain_interval_kind"])
        for line in csv.DictReader(verdicts)
        if line["threat"] == WHOLE
    }
    assert found == {
        ("rci", "32"): ("", ""),
        ("rci", "48"): ("evaluated images", "evaluated images"),
        ("noise", ""): ("population", "population"),
    }


def test_the_figure_of_the_first_screen_and_its_table_agree_cell_by_cell(mixed):
    run = load_run(mixed)
    axes = run.plot()
    rows = opening_of(run).rows
    table, _ = shown_rows(rows)
    page = (mixed / "report.html").read_text()
    cells = [re.findall(r"(?s)<td.*?</td>", row) for row in re.findall(r"(?s)<tr>.*?</tr>", page)]
    drawn = [row for row in cells if any("<svg" in cell for cell in row)]
    assert len(table.rows) == len(drawn) == len(axes.get_yticklabels()) == len(rows) > 2
    marks = {name: [] for name in ("circle", "base", "chance", "interval")}
    for line in axes.lines:
        kind = {"o": "circle", "D": "base", "|": "chance", "None": "interval"}[line.get_marker()]
        marks[kind].append((int(line.get_ydata()[0]), [*map(float, line.get_xdata())]))
    for place, (texts, row) in enumerate(zip(table.rows, drawn, strict=True)):
        said = dict(zip(table.heads, texts, strict=True))
        (svg,) = [cell for cell in row if "<svg" in cell]
        expected = {
            "circle": [float(said["Robust accuracy"].split()[0])],
            "base": [float(said["Base model"])],
            "chance": [100 * rows[place].chance],
            "interval": [
                float(end)
                for end in re.findall(
                    r"[\d.]+", (said["Re-batched"] or said["Robust accuracy"]).partition("[")[2]
                )
            ],
        }
        inline = {
            "circle": re.findall(r'<circle class="dot" cx="([\d.]+)"', svg),
            "base": [str(float(x) + 3.5) for x in re.findall(r'<rect class="base" x="([\d.]+)"', svg)],
            "chance": re.findall(r'class="chance" x1="([\d.]+)"', svg),
            "interval": [*itertools.chain(*re.findall(r'class="interval" x1="([\d.]+)" x2="([\d.]+)"', svg))],
        }
        for kind, values in expected.items():
            plotted = [x for at, xs in marks[kind] if at == place for x in xs]
            assert plotted == pytest.approx(values, abs=0.051), (place, kind)
            shown = [(float(x) - 4) / 2 for x in inline[kind]]
            assert shown == pytest.approx(values, abs=0.06), (place, kind)


def test_a_difference_of_next_to_nothing_has_no_negative_zero():
    difference = Difference(-0.0004, -0.02, 0.0004, first=0.5, second=0.5004, examples=100)
    assert difference_text(difference).startswith("+0.0 [-2.0, +0.0]")
    assert str(difference).startswith("+0.0 points (-2.0 to +0.0 ")
