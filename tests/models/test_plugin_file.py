"""Code that is named by its file."""

import sys

import pytest
import torch

from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.models.external_architectures import import_function, shown_name
from robustbench_coded.models.loading import load_checkpoint

CODE = "import beside\n\n\ndef build(model):\n    return beside.VALUE\n"


@pytest.fixture
def file(tmp_path):
    """A file whose name no module may have, with another one beside it; not in the current folder."""
    folder = tmp_path / "some where"
    folder.mkdir()
    (folder / "my-own.py").write_text(CODE)
    (folder / "beside.py").write_text("VALUE = 7\n")
    yield folder / "my-own.py"
    sys.modules.pop("beside", None)


def test_it_is_run_once_and_finds_what_lies_beside_it(file):
    before = list(sys.path)
    build = import_function(f"{file}:build", "--defence")
    assert build(None) == 7 and build is import_function(f"{file}:build", "--defence")
    assert sys.path == before


def test_it_takes_no_other_modules_place(tmp_path):
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "json.py").write_text(f"def build(model):\n    return {value}\n")
    found = [import_function(f"{tmp_path}/{folder}/json.py:build", "--defence")(None) for folder in "ab"]
    assert found == [1, 2] and hasattr(sys.modules["json"], "dumps")


def test_without_a_function_it_is_build():
    assert parse_defence("some/where/mine.py").target == "some/where/mine.py:build"
    assert parse_defence("mine.py:Mine").target == "mine.py:Mine"
    assert shown_name("some/where/mine.py:Mine") == "mine.Mine" == shown_name("package.mine:Mine")


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        (None, "build", "there is no file"),
        ("def other(): ...", "build", "has no function build"),
        ("1 / 0", "build", "mine.py shows the whole error"),
        ("", "1x", "file.py:function"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, code, name, said):
    if code is not None:
        (tmp_path / "mine.py").write_text(code)
    with pytest.raises(InputError) as refusal:
        import_function(f"{tmp_path}/mine.py:{name}", "--defence")
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


ENDS_IN_POOLING = """
import torch

def build():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, {classes}, 3),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    )
"""


def test_the_number_of_classes_is_what_a_network_answers(tmp_path):
    """No linear layer shows it: all weights are those of 3 x 3 convolutions."""
    for classes in (10, 1):
        source = tmp_path / f"net{classes}.py"
        source.write_text(ENDS_IN_POOLING.format(classes=classes))
        network = import_function(f"{source}:build", "--arch")()
        torch.save(network.state_dict(), tmp_path / "model.pt")
        if classes == 10:
            found = load_checkpoint(tmp_path / "model.pt", arch=f"{source}:build")
            assert (found.classes, found.channels) == (10, 1)
        else:
            with pytest.raises(InputError, match="answers no images of 8 to 224 pixels a side"):
                load_checkpoint(tmp_path / "model.pt", arch=f"{source}:build")
