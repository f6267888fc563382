"""What is shown while an evaluation runs."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from robustbench_coded.cli.progress import ProgressListener
from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.session.forecast import Forecast
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Perturbation, Subject
from robustbench_coded.schema.manifest import Stop


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


def test_quiet_is_quiet_at_a_terminal():
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen, force_terminal=True), quiet=True)
    listener.preparing("probing standard on erm")
    listener.close()
    assert screen.getvalue() == ""


def clean_on(checkpoint="erm", defence="standard", k=None, n=None):
    """Clean inputs of a subject."""
    subject = ProbedSubject(Subject(checkpoint, defence, k, n), defence, 128, False, False, False, 128)
    return planned_case(subject, WHOLE_BATCH, "clean", Perturbation("linf", 0.0, "pixel"))


def ahead(*cases, seconds=9.0, again=0):
    """A step of one unit of 30 images for each case, and its forecast."""
    units = tuple(SimpleNamespace(case=case, images=30, random_batches=()) for case in cases)
    forecast = Forecast(units=len(units), images=30 * len(units), done=0, seconds=seconds, again=again)
    return Plan(cases, units, ()), forecast


def live(listener):
    """How many displays are drawn anew again and again."""
    return len(listener._console._live_stack)


def test_no_spinner_is_left_whatever_was_shown_before_the_results():
    listener = ProgressListener(Console(file=io.StringIO(), force_terminal=True, width=80))
    for defence in ("standard", "rci", "coded"):
        listener.preparing(f"self-testing attacks on {defence}")
        assert live(listener) == 1
    plan, forecast = ahead(clean_on())
    listener.planned(plan, forecast)
    assert live(listener) == 1  # the bar alone
    listener.unit_done(plan.units[0], 3, 4)
    listener.preparing("certifying standard")
    listener.reported(run := SimpleNamespace())
    assert live(listener) == 0 and listener.run is run


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_times_are_shown_whole_whatever_the_row_is_called(width):
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen, force_terminal=True, width=width))
    now = 0.0
    listener._progress.get_time = lambda: now
    listener._progress.live.auto_refresh = False
    case = clean_on("cifar10-resnet20-coded", "rci", 128, 1190)
    plan, forecast = ahead(case, case)
    listener.planned(plan, forecast)
    now = 3.0
    listener.unit_done(plan.units[0], 12_345, 20_000)
    listener._progress.update(listener._task, rate="12,345 images/s")
    now = 45_296.0
    screen.truncate(0)
    listener._progress.refresh()
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).strip("\x00\r\n")
    assert len(line) <= width
    assert re.search(r" 12,345 images/s 12:34:56 (-:--:--|\d+:\d\d:\d\d)\s*$", line), line
    assert line.startswith("cifar10")
    listener.close()


def test_random_batches_are_counted_apart_from_answers():
    screen, case = io.StringIO(), clean_on()
    listener = ProgressListener(Console(file=screen, width=120))
    for number, batches in enumerate([(), (1, 2, 3), (4, 5)]):
        plan, forecast = ahead(case)
        plan.units[0].random_batches = batches
        listener.planned(plan, forecast)
        listener.unit_done(plan.units[0], *((3, 4) if number == 0 else (0, 0)))
    lines = [line.split("  erm")[0].strip() for line in screen.getvalue().splitlines()]
    assert lines == ["3/4 right", "3 random batches", "5 random batches"]


@pytest.mark.parametrize("seconds", [9.0, 100.0])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_step_of_a_minute_is_announced_with_what_is_made_again(terminal, seconds):
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen, force_terminal=terminal, width=120))
    listener.planned(*ahead(clean_on(), seconds=seconds, again=2))
    listener.inputs_made(SimpleNamespace(case=SimpleNamespace(attack="pgd-100"), images=10), 1)
    listener.close()
    shown = screen.getvalue()
    assert ("next 1 row, about 2 min" in shown) == (seconds > 60)
    assert ("first the perturbed inputs of 2 units are made again" in shown) == (seconds > 60)
    assert ("making inputs of pgd-100 again, 1 of 2" in shown) == terminal


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
        "no gain: RCI (K = 128, N = 190) on net (batch/unknown, linf, eps 8/255 (pixel)) under "
        "transfer-pgd-20, 256 of 10,000 examples\n"
    )
