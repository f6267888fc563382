"""What is shown while an evaluation runs."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.session.listener import ProgressListener, Stop
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Perturbation, Subject


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_probed_is_shown_at_a_terminal_until_it_is_over(terminal):
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen, force_terminal=terminal, width=80))
    listener.preparing("probing rci:N=24, own[x]:build on erm")
    listener.opened(Path("run"))
    shown, _, after = screen.getvalue().partition("probing rci:N=24, own[x]:build on erm")
    if terminal:
        assert "\x1b[2K" in after  # wiped: what is refused is told in one line
    else:
        assert shown == after == ""
    listener.close()
    assert screen.getvalue().endswith(after)


@pytest.mark.parametrize("quiet", [True, False])
def test_without_a_terminal_what_takes_a_while_is_named(monkeypatch, quiet):
    monkeypatch.setattr("robustbench_coded.evaluation.session.listener.LATE", 0.01)
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen), quiet=quiet)
    listener.preparing("reading erm.pt")
    if not quiet:
        listener._late.join()
    listener.close()
    assert screen.getvalue() == ("" if quiet else "reading erm.pt\n")


def clean_on(checkpoint="erm", defence="standard", k=None, n=None):
    """Clean inputs of a subject."""
    subject = ProbedSubject(Subject(checkpoint, defence, k, n), defence, 128, False, False, False, 128)
    return planned_case(subject, WHOLE_BATCH, "clean", Perturbation("linf", 0.0, "pixel"))


def ahead(*cases, images=30, later=0):
    """A step of one unit for each case, and the images of these and of what runs later."""
    units = tuple(SimpleNamespace(case=case, images=images, random_batches=()) for case in cases)
    return Plan(cases, units, ()), images * len(units) + later


def live(listener):
    """How many displays are drawn anew again and again."""
    return len(listener._console._live_stack)


def test_no_spinner_is_left_whatever_was_shown_before_the_results():
    listener = ProgressListener(Console(file=io.StringIO(), force_terminal=True, width=80))
    for defence in ("standard", "rci", "coded"):
        listener.preparing(f"self-testing attacks on {defence}")
        assert live(listener) == 1
    plan, images = ahead(clean_on())
    listener.planned(plan, images)
    assert live(listener) == 1  # the bar alone
    listener.unit_done(plan.units[0], 3, 4)
    listener.preparing("writing the reports")
    listener.reported(run := SimpleNamespace())
    assert live(listener) == 0 and listener.run is run


@pytest.mark.parametrize("width", [80, 120, 200])
def test_one_line_says_how_far_the_whole_is_whatever_the_row_is_called(width):
    screen, now = io.StringIO(), 0.0
    listener = ProgressListener(Console(file=screen, force_terminal=True, width=width), clock=lambda: now)
    listener._live.live.auto_refresh = False
    case = clean_on("cifar10-resnet20-coded", "rci", 128, 1190)
    now = 10.0
    plan, images = ahead(case, case, images=15_000, later=70_000)
    listener.planned(plan, images)
    now = 40.0
    listener.unit_done(plan.units[0], 12_345, 20_000)
    listener.unit_done(plan.units[1], 12_345, 20_000)
    plan, images = ahead(case, images=20_000, later=50_000)  # the next step of the same evaluation
    listener.planned(plan, images)
    screen.truncate(0)
    listener._live.refresh()
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).strip("\x00\r\n")
    assert len(line) <= width
    assert "30% of 100,000 gradient evaluations, 70 s left" in line and line.startswith("cifar10")
    listener.close()


def test_how_far_it_is_stands_on_a_line_every_ten_seconds_where_there_is_no_terminal():
    screen, now = io.StringIO(), [100.0]
    listener = ProgressListener(Console(file=screen, width=120), clock=lambda: now[0])
    plan, images = ahead(*[clean_on()] * 4, images=25)
    listener.planned(plan, images)
    for now[0] in (104.0, 111.0, 115.0):
        listener.unit_done(plan.units[0], 3, 4)
    assert screen.getvalue() == "  50% of 100 gradient evaluations\n"  # too early to tell how long it takes


def test_random_batches_are_counted_apart_from_answers():
    screen, case = io.StringIO(), clean_on()
    listener = ProgressListener(Console(file=screen, width=120))
    for number, batches in enumerate([(), (1, 2, 3), (4, 5)]):  # the first has 2 images in 2 draws
        plan, images = ahead(case)
        plan.units[0].random_batches = batches
        listener.planned(plan, images)
        listener.unit_done(plan.units[0], *((3, 4, 2) if number == 0 else (0, 0)))
    lines = [line.rpartition(": ")[2] for line in screen.getvalue().splitlines()]
    first = "3 of 4 predictions correct (2 images x 2 draws)"
    assert lines == [first, "3 random batches", "5 random batches"]


def test_a_verdict_is_told_the_moment_it_falls():
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen, width=120))
    listener.settled(
        Stop(
            case=Case(
                Subject("net", "rci", 128, 190),
                WHOLE_BATCH,
                Perturbation("linf", 8 / 255, "pixel"),
                "transfer-pgd-20",
            ),
            verdict="no gain",
            examples=256,
            planned=10_000,
        )
    )
    assert screen.getvalue() == (
        "no gain, final: RCI (K = 128, N = 190) on net (batch/unknown, linf, eps 8/255 (pixel)) under "
        "transfer-pgd-20, 256 of 10,000 images\n"
    )
