import io

from rich.console import Console

from robustbench_coded.paper.training import listener
from robustbench_coded.paper.training.listener import EpochRow, ProgressBar


def row(epoch, accuracy=None):
    return EpochRow(epoch, 0.1, 1.25 / epoch, accuracy, None if accuracy is None else 0.5, 2.0)


def test_the_progress_bar_counts_epochs_and_shows_the_last_figures(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        listener, "Console", lambda **options: Console(file=screen, force_terminal=True, width=140)
    )
    bar = ProgressBar("resnet20-coded")
    bar.start(epochs=3, steps=2, first_epoch=1)
    for step in range(2):
        bar.step(1, step)
    bar.done(2, row(2, accuracy=0.875).figures)
    bar.stop()
    shown = screen.getvalue()
    assert "resnet20-coded" in shown and "epoch 2/3" in shown and "loss 0.625, validation 87.5%" in shown


def test_a_log_gets_a_line_a_minute_and_the_last_epoch(monkeypatch):
    log, clock = io.StringIO(), [1000.0]
    monkeypatch.setattr(listener, "Console", lambda **options: Console(file=log, width=20))
    monkeypatch.setattr(listener, "monotonic", lambda: clock[0])
    bar = ProgressBar("erm [a]")
    bar.start(epochs=6, steps=2, first_epoch=0)
    for epoch in range(1, 7):
        for step in range(2):
            clock[0] += 150.0 if epoch == 4 else 12.5
            bar.step(epoch - 1, step)
        bar.done(epoch, row(epoch).figures)
    bar.stop()
    assert log.getvalue().splitlines() == [
        "erm [a]: epoch 3/6, loss 0.417",
        "erm [a]: epoch 4/6, step 1/2",
        "erm [a]: epoch 4/6, loss 0.312",
        "erm [a]: epoch 6/6, loss 0.208",
    ]
