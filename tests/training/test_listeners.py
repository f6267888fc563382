import io

import pytest
from rich.console import Console

from robustbench_coded.training import progress
from robustbench_coded.training.listener import EpochRow
from robustbench_coded.training.progress import ProgressBar


def row(epoch, accuracy=None):
    return EpochRow(epoch, 0.1, 1.25 / epoch, accuracy, None if accuracy is None else 0.5, 2.0)


def test_the_progress_bar_counts_epochs_and_shows_the_last_figures(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **options: Console(file=screen, force_terminal=True, width=140)
    )
    bar = ProgressBar("resnet20-coded")
    bar.on_start(epochs=3, steps=2, first_epoch=1)
    for step in range(2):
        bar.on_step(1, step)
    bar.on_epoch(row(2, accuracy=0.875))
    bar.on_end()
    shown = screen.getvalue()
    assert "resnet20-coded" in shown and "epoch 2/3" in shown and "loss 0.625, validation 87.5%" in shown


def test_tensorboard_gets_every_epoch(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from robustbench_coded.training.tensorboard import TensorBoardLog

    log = TensorBoardLog(tmp_path)
    log.on_start(2, 1, 0)
    for epoch, accuracy in ((1, 0.5), (2, 0.75)):
        log.on_step(epoch - 1, 0)
        log.on_epoch(row(epoch, accuracy))
    log.on_end()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/train")] == [(1, 1.25), (2, 0.625)]
    assert [e.value for e in events.Scalars("accuracy/validation")] == [0.5, 0.75]
