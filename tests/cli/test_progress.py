"""What is shown while an evaluation runs."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from robustbench_coded.cli.commands import eval_
from robustbench_coded.cli.progress import ProgressListener
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.session.listener import Forecast


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


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_made_again_is_said(terminal):
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen, force_terminal=terminal, width=120))
    ahead = Forecast(units=1, images=30, done=4, seconds=100.0, of=lambda unit: 1.0, again=2)
    listener.planned(Plan((), (), ()), ahead)
    listener.inputs_made(SimpleNamespace(row=SimpleNamespace(attack="pgd-100"), images=10), 1)
    listener.close()
    shown = screen.getvalue()
    assert "about 2 min" in shown and "first the perturbed inputs of 2 units are made again" in shown
    assert ("making inputs of pgd-100 again, 1 of 2" in shown) == terminal


def test_advice_is_given_once_and_only_where_a_run_takes_ten_minutes():
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen, width=120), advice="--until settled ends it sooner")
    for seconds, told in ((599.0, 0), (600.0, 1), (6000.0, 1)):
        listener.planned(
            Plan((), (), ()), Forecast(units=1, images=30, done=0, seconds=seconds, of=lambda unit: 1.0)
        )
        assert screen.getvalue().count("--until settled ends it sooner") == told
    listener.close()


class Row:
    subject = SimpleNamespace(checkpoint="erm", label="standard", shown_k=None, n=None)
    threat, attack, eps = "batch/unknown", "clean", 0.0


@pytest.mark.parametrize("terminal", [True, False])
def test_how_many_are_made_is_shown_at_a_terminal_until_all_are(terminal):
    screen = io.StringIO()
    listener = ProgressListener(Console(file=screen, force_terminal=terminal, width=80))
    for done in range(3):
        listener.making("corrupted sets", done, 2)
    shown = screen.getvalue()
    assert ("corrupted sets" in shown and "2 of 2" in shown) == terminal
    listener.opened(Path("run"))
    listener.planned(Plan((), (), ()), Forecast(units=1, images=30, done=0, seconds=9.0, of=lambda unit: 1.0))
    row = Row()
    listener._left[row] = 1
    listener.unit_done(SimpleNamespace(row=row, images=30), 3, 4)
    listener.close()
    assert "3/4 right" in screen.getvalue()[len(shown) :]  # of the evaluation that follows


@pytest.mark.parametrize(
    ("options", "advised"),
    [({}, True), ({"until": "settled"}, False), ({"time": 60.0}, False), ({"replicates": 2}, False)],
)
def test_advice_names_options_that_the_command_can_take_and_does_not_have(options, advised):
    config = EvalConfig(checkpoints=(("erm", Path("erm.pt")),), **options)
    assert ("--until settled" in eval_._advice(config)) == advised
