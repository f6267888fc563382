"""Scripts and notebooks that ask for worker processes, which import ``__main__`` anew."""

import sys
from types import ModuleType

import pytest
import torch

import robustbench_coded
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.main_module import check_main_module

UNGUARDED = """
import robustbench_coded
ran.append(1)
robustbench_coded.evaluate("digits-erm", "digits", attacks="fgsm", limit=16, batch_size=16, workers=2)
"""


def as_main(monkeypatch, source, path=None):
    main = ModuleType("__main__")
    if path is not None:
        path.write_text(source)
        main.__file__ = str(path)
    main.ran = []
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(source, str(path), "exec"), vars(main))
    return main


def test_a_script_without_the_guard_is_told_of_it_before_anything_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r'^workers import train.py anew.* line 4 .*if __name__ == "__main__"'
    ):
        as_main(monkeypatch, UNGUARDED, tmp_path / "train.py")
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.parametrize(
    "source",
    [
        "if __name__ == '__main__':\n    check(b'')",
        "def run():\n    check(b'')\nif 1:\n    pass\nif __name__ == '__main__':\n    run()",
    ],
)
def test_a_script_with_the_guard_is_not(monkeypatch, tmp_path, source):
    monkeypatch.setattr("builtins.check", check_main_module, raising=False)
    as_main(monkeypatch, source, tmp_path / "train.py")


def test_a_class_of_a_notebook_is_named_as_what_workers_lack(monkeypatch, tmp_path):
    source = "import torch\nclass Net(torch.nn.Flatten):\n    pass\nnet = Net()"
    main = as_main(monkeypatch, source)
    assert isinstance(main.net, torch.nn.Module)
    with pytest.raises(InputError, match=r"defined in a notebook.* put the classes .* into a \.py file"):
        robustbench_coded.evaluate(main.net, "digits", limit=16, workers=2, out=tmp_path / "run")
