import torch

from robustbench_coded.data.augment import shift, shift_and_flip


def images(count):
    """Every pixel different, and none 0, so that padding and position can be told."""
    return (torch.arange(count * 3 * 16 * 8).reshape(count, 3, 16, 8) + 1) / 1e5


def offsets_of(original, moved):
    """The (down, right) moves that explain ``moved``."""
    found = []
    for down in range(-2, 3):
        for right in range(-1, 2):
            shown = torch.zeros_like(original)
            source = original[:, max(0, -down) : 16 - max(0, down), max(0, -right) : 8 - max(0, right)]
            top, left = max(0, down), max(0, right)
            shown[:, top : top + source.shape[1], left : left + source.shape[2]] = source
            if torch.equal(shown, moved):
                found.append((down, right))
    return found


def test_each_image_is_moved_by_up_to_an_eighth_in_every_way():
    x = images(200)
    moved = shift(x, torch.Generator().manual_seed(0))
    offsets = [offsets_of(image, after) for image, after in zip(x, moved)]
    assert all(len(found) == 1 for found in offsets)
    assert {found[0] for found in offsets} == {(d, r) for d in range(-2, 3) for r in range(-1, 2)}


def test_half_of_the_images_are_mirrored():
    x = images(200)
    after = shift_and_flip(x, torch.Generator().manual_seed(0))
    mirrored = [not offsets_of(a, b) and len(offsets_of(a.flip(-1), b)) == 1 for a, b in zip(x, after)]
    straight = [len(offsets_of(a, b)) == 1 for a, b in zip(x, after)]
    assert all(m != s for m, s in zip(mirrored, straight)) and 75 < sum(mirrored) < 125


def test_numbers_come_from_the_generator_alone():
    x = images(8)
    before = torch.get_rng_state()
    first = shift_and_flip(x.clone(), torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, shift_and_flip(x.clone(), torch.Generator().manual_seed(3)))
    assert not torch.equal(first, shift_and_flip(x.clone(), torch.Generator().manual_seed(4)))
