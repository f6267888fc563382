from robustbench_coded.paper.training import loader
from robustbench_coded.paper.training.loader import EpochRow, Progress


def row(epoch, accuracy=None):
    return EpochRow(epoch, 0.1, 1.25 / epoch, accuracy, None if accuracy is None else 0.5, 2.0)


def test_there_is_a_line_a_minute_and_one_on_the_last_epoch(monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(loader, "monotonic", lambda: clock[0])
    bar = Progress("erm [a]")
    bar.start(epochs=6, steps=2)
    for epoch in range(1, 7):
        for step in range(2):
            clock[0] += 150.0 if epoch == 4 else 12.5
            bar.step(epoch - 1, step)
        bar.done(epoch, row(epoch, accuracy=0.875 if epoch == 6 else None).figures)
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "erm [a]: epoch 3/6, loss 0.417",
        "erm [a]: epoch 4/6, step 1/2",
        "erm [a]: epoch 4/6, loss 0.312",
        "erm [a]: epoch 6/6, loss 0.208, validation 87.5%",
    ]
    assert not shown.out
