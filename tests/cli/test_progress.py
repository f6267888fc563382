"""What is shown while an evaluation runs."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from robustbench_coded.cli.progress import ProgressListener


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
