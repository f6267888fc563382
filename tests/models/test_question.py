"""What is asked where nothing decides the normalisation, and what is stated instead."""

import pytest
import torch

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import recognise_network


@pytest.fixture(scope="module")
def test_images():
    data = load_digits("test")
    return data.batch(range(len(data)))


@pytest.fixture
def robust(robust_perceptron):
    """A file without batch-norms or a normalisation, and its network in the user's own code."""
    arch = f"{robust_perceptron.parent}/own.py:build"
    return arch, lambda **stated: load_checkpoint(
        robust_perceptron, arch=arch, image_shape=(1, 8, 8), **stated
    )


def test_a_question_has_three_lines_with_the_images_they_rest_on(robust, test_images):
    arch, load = robust
    found = recognise_network(load(), *test_images)
    assert found.refusal == (
        "neither its weights nor its file say its normalisation. State the network as it was trained, as in "
        "one of these lines, or pass --arch file.py:build if it is another one. An adversarially trained "
        "network may be more accurate behind a wrong normalisation, so labels do not choose"
    )
    lines = found.question
    assert len(lines) == 3
    right = [line for line in lines if line.startswith(f"  --arch '{arch}' --normalize none  (9")]
    assert len(right) == 1 and right[0].endswith(f"% of {len(test_images[0])} right)")
    accuracies = [float(line.rpartition("(")[2].partition("%")[0]) for line in lines]
    assert accuracies == sorted(accuracies, reverse=True)
    with pytest.raises(InputError) as error:
        with_normalisation(load(), *test_images)
    assert str(error.value).splitlines()[1].startswith("  --arch '")


@pytest.mark.parametrize("normalize", ["none", "half"])
def test_what_is_stated_is_evaluated_as_it_is(robust, test_images, normalize):
    found = recognise_network(robust[1](normalize=normalize), *test_images)
    assert (found.refusal, found.question) == ("", ())
    assert (found.form.normalisation.name, found.by) == (normalize, ("--arch", "given"))


def test_labels_that_contradict_what_is_stated_warn(robust, test_images):
    arch, load = robust
    assert recognise_network(load(normalize="none"), *test_images).warnings == ()
    wrong = recognise_network(load(normalize="1.2/0.5"), *test_images)
    assert (wrong.refusal, str(wrong.form.normalisation)) == ("", "1.2/0.5")
    assert wrong.warnings[0].startswith(f"its labelled images contradict {arch} with normalisation 1.2/0.5")


def test_where_even_the_best_line_is_at_chance_the_images_may_be_others(robust, test_images):
    x, y = test_images
    _, load = robust
    found = recognise_network(load(), x, y[torch.randperm(len(y))])
    assert "even the best of these lines answers as by chance, so the images may not be" in found.refusal
    stated = recognise_network(load(normalize="none"), x, (y + 1) % 10)
    assert "and chance is 10.0%" in stated.refusal  # a network at chance is not evaluated


def test_without_labels_the_lines_have_no_figures(robust, test_images):
    arch, load = robust
    found = recognise_network(load(), test_images[0], None)
    assert found.question[0] == f"  --arch '{arch}' --normalize none"
    assert len(found.question) == 3
