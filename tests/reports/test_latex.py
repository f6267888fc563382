"""Tables in LaTeX: what they hold, and that they fit a column of a two-column paper."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from robustbench_coded.cli.main import main
from robustbench_coded.reports.compare.comparison import compare
from robustbench_coded.reports.render.latex import PACKAGES, SCALED, latex_table
from robustbench_coded.reports.run.tables import tables_of
from robustbench_coded.reports.text.attack_names import attack_in_words, paper_name
from robustbench_coded.run import load_run

COLUMN_WIDTH = 234.0  # points; the document below has it, too
REPORTS = Path(__file__).parents[2] / "reports"
COMMITTED = ["cifar10-recipes", "digits", "digits-sweep", "cifar10-resnet20"]
DOCUMENT = r"""\documentclass[twocolumn,10pt]{article}
\usepackage{booktabs,graphicx}
\columnsep=24pt \textwidth=492pt
\begin{document}
\message{column \the\columnwidth}
\input{tables.tex}
\end{document}
"""


@cache
def tables(run, attacks=()):
    return "\n".join([PACKAGES, *(latex_table(table, attacks) for table in tables_of(load_run(run)))])


@pytest.mark.parametrize("name", COMMITTED)
def test_tables_are_scaled_to_a_column(name):
    text = tables(REPORTS / name)
    scaled = text.count("\n".join([SCALED, r"\begin{tabular}"]))
    assert scaled == text.count(r"\begin{tabular}") > 0


@pytest.mark.long
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("name", [*COMMITTED, "hostile"])
def test_tables_compile_and_nothing_is_overfull(name, tmp_path, hostile_run):
    (tmp_path / "tables.tex").write_text(tables(hostile_run if name == "hostile" else REPORTS / name))
    (tmp_path / "page.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=batchmode", "-halt-on-error", "page.tex"]
    assert subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, check=False).returncode == 0
    log = (tmp_path / "page.log").read_text(errors="replace")
    assert f"column {COLUMN_WIDTH}pt" in log and "Overfull" not in log


def test_the_table_says_what_it_needs_and_on_how_many_images_it_rests():
    text = tables(REPORTS / "digits")
    assert text.startswith(r"% Needs \usepackage{booktabs,graphicx}.")
    assert r"\label{tab:accuracy-under-attack-linf-eps-0-3-pixel}" in text
    assert r"\caption{Accuracy under attack: linf, eps 0.3 (pixel). Accuracy in percent, n = 640." in text
    assert "n = 256" in text and "Worst" in text


def test_attacks_are_chosen_in_their_order(tmp_path, capsys):
    run = REPORTS / "cifar10-resnet20"
    chosen = ["--format", "latex", "--out", str(tmp_path), "--attacks"]
    assert main(["report", str(run), *chosen, "pgd-100, clean,ensemble batch/known"]) == 0
    text = (tmp_path / "tables.tex").read_text()
    heads = next(line for line in text.splitlines() if line.startswith("Network")).split(" & ")
    assert ["PGD-{}100" in heads[1], heads[2], "known" in heads[3]] == [True, "Clean", True]
    capsys.readouterr()
    assert main(["report", str(run), *chosen, "pgd-7"]) == 2
    assert "--attacks 'pgd-7' is no column of the table; it has clean" in capsys.readouterr().err
    assert main(["report", str(run), "--format", "parquet", "--attacks", "fgsm", "--out", str(tmp_path)]) == 2
    assert "--attacks chooses columns of --format latex" in capsys.readouterr().err


def test_attacks_have_the_names_that_authors_write():
    names = {
        "fgsm": "FGSM",
        "pgd-10": "PGD-10",
        "eot10-pgd-20+loss=margin": "EOT-PGD-20 (10 draws, margin loss)",
        "transfer-apgd-mt-20": "Transfer APGD-MT-20",
        "aware-pgd-20+init=transfer-pgd-20": "PGD-20 (started from transfer PGD-20), draw known",
        "relaxed-eot4-apgd-ce-50": "Relaxed EOT-APGD-CE-50 (4 draws)",
        "pgd-100@1/255": "PGD-100 (step 1/255)",
        "square-1000": "Square-1000",
        "random-sign": "Random signs",
        "torchattacks:PGD+steps=10": "torchattacks:PGD+steps=10",
    }
    assert {name: paper_name(name) for name in names} == names
    assert attack_in_words("from:rci:N=128/transfer-pgd-20") == "transfer PGD-20, made against RCI (N = 128)"
    worst = "the worst of several attacks in 8 bits, made against a"
    assert attack_in_words("from:a/ensemble+bits=8") == worst


@cache
def compared(name):
    return "\n".join(map(latex_table, compare([REPORTS / name]).tables))


def test_differences_of_a_comparison_have_intervals_and_a_minus():
    text = compared("cifar10-recipes")
    lines = [line for line in text.splitlines() if re.search(r"[&{] *(\+|\$-\$)\d", line)]
    below = [text.splitlines()[text.splitlines().index(line) + 1] for line in lines]
    assert any("{[}" in line for line in below)  # of standard inference; disjoint batches have none
    assert not re.search(r"[ }]-\{\}\d", text.partition("toprule")[2])
    assert "Intervals are for the population" in text or r"Intervals marked \dag{}" in text


def test_figures_come_as_pdf_with_fonts_that_conferences_take(invented_run, tmp_path):
    assert main(["report", str(invented_run), "--format", "latex", "--out", str(tmp_path)]) == 0
    found = sorted(tmp_path.glob("*.pdf"))
    assert {"answer.pdf", "attacks.pdf"} <= {file.name for file in found}
    for file in found:
        data = file.read_bytes()
        assert data.startswith(b"%PDF") and b"/FontFile2" in data
        assert b"/Type3" not in data
