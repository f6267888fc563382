"""Images of ImageNet's size: what is asked before the attacks begin is asked about few of them."""

import pytest
import torch
from torch import nn

from robustbench_coded import evaluate
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.evaluation.setup.probing import gradient_figures
from tests.run_folders import selftests

SIDE, EXAMPLES = 224, 40


class Shade(nn.Module):
    """Tells dark images from bright ones."""

    def forward(self, x):
        score = 20 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-score, score], 1)


def measured(out, **more):
    y = torch.arange(EXAMPLES) % 2
    generator = torch.Generator().manual_seed(0)
    x = 0.8 * torch.rand((EXAMPLES, 1, SIDE, SIDE), generator=generator) + 0.2 * y[:, None, None, None]
    options = {"attacks": "fgsm", "batch_size": 16, "limit": EXAMPLES, **more}
    return evaluate({"net": Shade()}, (x, y), eps=0.05, draws=2, threads=1, out=out, **options)


@pytest.mark.parametrize(
    ("defences", "examples"), [([], 20), pytest.param(["rci:N=24"], 16, marks=pytest.mark.long)]
)
def test_probes_and_self_tests_ask_about_few_large_images(tmp_path, defences, examples):
    run = measured(tmp_path / "run", defences=defences, standard=not defences)
    (probe,) = run.manifest.probes
    assert probe.figures["k"] == 8
    (stored,) = selftests(run.path).values()
    assert stored["examples"] == examples and "failed" not in {test["outcome"] for test in stored["tests"]}


def test_usable_gradients_are_counted_on_few_large_images():
    asked = []

    def network(x):
        asked.append(len(x))
        return Shade()(x)

    for side, images in ((SIDE, 16), (32, EXAMPLES)):
        x, y = torch.rand(EXAMPLES, 1, side, side), torch.arange(EXAMPLES) % 2
        assert gradient_figures(Standard(network), x, y, 0) == {"zero_share": 0}
        assert asked.pop() == images and not asked
