"""Recognition from names and shapes alone."""

import pytest

from robustbench_coded.models.detect import recognise, shapes_of
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.registry import MODELS

# Those for one image size have tests of their own.
ARCHS = [*(name for name in MODELS if not name.startswith("wong")), "wrn-34-20", "wrn-16-4"]
ARCHS += ["resnet8", "resnet164", "resnet56", "resnet110", "dm-wrn-70-16"]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (10, 3), (200, 3)])
def test_every_architecture_is_recognised_with_its_classes_and_channels(arch, classes, channels):
    found = recognise(shapes_of(arch, classes, channels))
    usual = arch.removesuffix("-raw").removesuffix("-per-image")  # others of the same weights
    assert (found.arch, found.classes, found.channels, found.image_size) == (usual, classes, channels, None)


def changed(**changes):
    shapes = {**shapes_of("resnet20", 10, 3), **{name.replace("__", "."): s for name, s in changes.items()}}
    return {name: shape for name, shape in shapes.items() if shape is not None}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (changed(bn1__weight=None), "nearest is resnet20, where bn1.weight is missing$"),
        (changed(extra__weight=(3,)), "nearest is resnet20, where extra.weight has no place$"),
        (
            changed(layer1__0__conv1__weight=(16, 16, 5, 5)),
            r"layer1.0.conv1.weight is \[16, 16, 5, 5\] instead of \[16, 16, 3, 3\]$",
        ),
        (changed(conv1__weight=(16, 4, 3, 3)), "takes 4 channels; images of 1 or 3"),
        (changed(linear__weight=(1, 64), linear__bias=(1,)), "answers 1 class; two logits are"),
        ({"w": (3, 3)}, r"has these weights; none is near: it begins with w \[3, 3\]$"),
    ],
    ids=["missing", "unexpected", "shape", "channels", "one class", "stranger"],
)
def test_what_differs_is_named(shapes, message):
    with pytest.raises(Refused, match=message):
        recognise(shapes)


def test_an_architecture_that_was_given_is_the_only_one_tried():
    with pytest.raises(
        Refused, match=r"not those of resnet32, where layer1.3.conv1.weight is missing \(60 of 157 differ\)"
    ) as refused:
        recognise(shapes_of("resnet20", 10, 3), "resnet32")
    assert "resnet44" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["conv1.weight", "fc.weight", "logits.weight", "block1.layer.0.conv1.weight"]
)
@pytest.mark.parametrize(
    "shape", [(), (0,), (0, 0, 0, 0), (1, 10**9, 192), (10**9, 3, 10**9, 10**9)], ids=str
)
def test_absurd_shapes_are_refused_without_building_anything(name, shape):
    shapes = {**shapes_of("wrn-10-1", 10, 3), name: shape}
    with pytest.raises(Refused, match=r"no known architecture"):
        recognise(shapes)
