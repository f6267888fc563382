"""docs/in-memory.md and further_forms.md: every line of their tables does what it says."""

import ast
import copy
import functools
import re
from dataclasses import dataclass
from fractions import Fraction  # noqa: F401 - for the page
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from robustbench_coded import InputError, attack, evaluate
from tests.evaluation.test_from_python import Jitter  # noqa: F401 - for the page

pytestmark = pytest.mark.long

PAGE = (Path(__file__).parents[2] / "docs" / "in-memory.md").read_text()
FURTHER = Path(__file__).with_name("further_forms.md").read_text()
LINE = re.compile(r"^\| `((?:evaluate|attack)\(.+?\))` \| (.+) \|$", re.MULTILINE)
SECTIONS: dict[str, list[tuple[str, str]]] = {}
for page in (PAGE, FURTHER):
    for title, text in re.findall(r"^## (.+?)$(.+?)(?=^##|\Z)", page, re.M | re.S):
        SECTIONS.setdefault(title, []).extend(LINE.findall(text))
SMALL = {"attacks": "fgsm", "batch_size": 8, "draws": 2, "limit": 16, "threads": 1}


@dataclass
class Output:
    """What models of Hugging Face return."""

    logits: torch.Tensor
    hidden_states: torch.Tensor


class Dropped(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(nn.functional.dropout(x, 0.1))


@pytest.fixture(scope="module")
def names():
    """What the page says that its lines find."""
    numbers = torch.Generator().manual_seed(0)
    x_uint8 = torch.randint(256, (16, 1, 8, 8), generator=numbers, dtype=torch.uint8)
    x = x_uint8 / 255
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
    y = torch.arange(16) % 3
    classifier = LogisticRegression().fit(x.flatten(1).numpy(), y.numpy())
    pictures = [Image.fromarray(image.numpy()) for image in x_uint8[:, 0]]
    training = nn.Sequential(copy.deepcopy(model), nn.Dropout(0.5)).train()
    return {**vars(torch.utils.data), **globals(), **locals()}


@pytest.fixture
def cell(names, tmp_path, monkeypatch):
    """Runs a line as a cell of a notebook."""
    monkeypatch.chdir(tmp_path)

    @functools.wraps(evaluate)
    def small(*given, **options):
        radius = {} if "epsilon" in options else {"eps": 0.1}
        return evaluate(*given, **{"out": tmp_path / "run", "overwrite": True, **SMALL, **radius, **options})

    return lambda line: eval(line, {**names, "evaluate": small})


@pytest.fixture(scope="module")
def reference(names, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "run"
    return answers(evaluate(names["model"], (names["x"], names["y"]), eps=0.1, out=out, **SMALL))


def answers(run):
    """Label, prediction and margin of every outcome of standard inference, whatever the images' order."""
    outcomes = run.outcomes[
        (run.outcomes.defence == "standard") & run.outcomes.attack.isin(["clean", "fgsm"])
    ]
    columns = ["attack", "label", "prediction", "margin"]
    return outcomes[columns].sort_values(columns).reset_index(drop=True)


def lines_of(title):
    """The lines of a section that are not refused."""
    lines = [pair for pair in SECTIONS[title] if not pair[1].startswith("refused: ")]
    return pytest.mark.parametrize(("line", "outcome"), lines, ids=[line for line, _ in lines])


@lines_of("Images and labels")
def test_images_and_labels_give_the_answers_of_their_tensors(line, outcome, cell, reference):
    pd.testing.assert_frame_equal(answers(cell(line)), reference)


@lines_of("Networks")
def test_networks_give_the_answers_of_the_module(line, outcome, cell, reference):
    run = cell(line)
    if "square-1000" in outcome:
        assert "square-1000" in set(run.summary.attack)
        assert "instead" in run._repr_html_()
    else:
        pd.testing.assert_frame_equal(answers(run), reference)


@lines_of("Defences")
def test_defences_have_the_rows_that_the_page_names(line, outcome, cell):
    rows = cell(line).summary
    named = outcome.partition(", built")[0].partition(", randomised")[0].partition(", a module")[0]
    assert set(rows.defence) == {"standard", *re.findall(r"`(.+?)`", named)}
    ours = rows[rows.defence != "standard"]
    assert ("randomised" in outcome or "samples" in outcome) <= (rows.threat == "batch/unknown").any()
    assert len(ours) >= 3


@lines_of("Options")
def test_options_are_taken(line, outcome, cell):
    run = cell(line)
    if "eps" in line:
        expected = [4 / 255, 8 / 255] if "radii" in outcome else [8 / 255]
        assert sorted(run.summary[run.summary.attack == "fgsm"].eps) == pytest.approx(expected, abs=1e-5)
    assert "<td>clean</td>" in run._repr_html_()


@lines_of("attack")
def test_attack_returns_the_inputs_as_they_were_given(line, outcome, cell, names):
    given = cell(ast.unparse(ast.parse(line).body[0].value.args[1]))
    torch.manual_seed(0)
    perturbed = cell(line)
    assert type(perturbed) is type(given) and perturbed.shape == given.shape
    assert perturbed.dtype == (torch.float32 if given.dtype == torch.uint8 else given.dtype)
    torch.manual_seed(0)
    expected = attack(names["model"], names["x"], names["y"], "pgd-5", 8 / 255)
    images = torch.as_tensor(perturbed).float()
    if images.shape[-1] == 1:
        images = images.permute(0, 3, 1, 2)
    torch.testing.assert_close(images.reshape(expected.shape), expected, atol=1e-5, rtol=0)


EVERYWHERE = [pair for title in SECTIONS for pair in SECTIONS[title] if pair[1].startswith("refused: ")]


@pytest.mark.parametrize(("line", "outcome"), EVERYWHERE, ids=[line for line, _ in EVERYWHERE])
def test_what_is_refused_is_refused_in_the_words_of_the_page(line, outcome, cell, tmp_path):
    with pytest.raises((InputError, ValueError)) as refused:
        cell(line)
    assert f"refused: `{refused.value}`" == outcome
    assert not [*tmp_path.iterdir()]
