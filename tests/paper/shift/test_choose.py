"""From options to sets, and the images that networks are recognised by."""

import numpy as np
import pytest
from PIL import Image

from robustbench_coded.data.imagenet import wnids
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.setup.checkpoints import _examples
from robustbench_coded.paper.shift import run
from robustbench_coded.paper.shift.run import ShiftConfig


def config(data, **options):
    return ShiftConfig(EvalConfig(checkpoints=(("erm", "digits-erm"),), **options), data=(data,))


def test_a_network_is_recognised_by_the_images_of_a_limited_set_with_their_own_labels(tmp_path, monkeypatch):
    for number, wnid in enumerate(wnids()[:6]):
        folder = tmp_path / "fog" / "1" / wnid
        folder.mkdir(parents=True)
        Image.fromarray(np.full((224, 224, 3), 40 * number, np.uint8)).save(folder / "a.png")

    def nothing_named(config):
        raise InputError("no natural images")

    monkeypatch.setattr(run, "_named", nothing_named)
    reference = run.chosen_sets(config(f"imagenet-c:{tmp_path}", limit=3, batch_sizes=(2,))).reference
    x, y = reference.batch(range(3))
    assert len(reference) == 3 and reference.classes == 1000
    assert (x[:, 0, 0, 0] * 255).round().tolist() == [40 * label for label in y.tolist()]


def test_a_kind_without_its_folder_says_what_the_folder_should_hold():
    with pytest.raises(
        InputError, match=r"--data cifar10c: give its folder, cifar10c:DIR, which holds .*fog"
    ):
        run.chosen_sets(config("cifar10c"))


@pytest.mark.parametrize(("kind", "labelled"), [("imagenet-r", True), ("imagenet-a", False)])
def test_labels_of_images_selected_as_misclassified_say_nothing_about_a_network(tmp_path, kind, labelled):
    for wnid in wnids()[::5]:
        (tmp_path / wnid).mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / wnids()[5] / "a.png")
    data = load_data(f"{kind}:{tmp_path}+prep=Crop8").of_all_classes(1000)
    x, y = _examples(data, 4)
    assert len(x) == 1 and (y is not None) == labelled
