"""The corruptions: seeded image by image, and equal to what scipy and closed forms say."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, zoom

from robustbench_coded.paper.shift import corruptions
from robustbench_coded.paper.shift.corruptions import (
    CONSTANTS,
    EXTRA,
    MAIN,
    as_pixels,
    bilinear,
    corrupt,
    corruptions_for,
    edges,
    equalised,
)

COLOURS = np.random.RandomState(0).randint(0, 256, (6, 32, 32, 3)).astype(np.uint8)
DIGITS = np.random.RandomState(1).randint(0, 256, (6, 8, 8, 1)).astype(np.uint8)


def test_there_are_15_and_4_corruptions_of_5_severities():
    assert (len(MAIN), len(EXTRA)) == (15, 4)
    assert {len(constants) for constants in CONSTANTS.values()} == {5}
    assert set(corruptions_for(3)) - set(corruptions_for(1)) == {"saturate"}


@pytest.mark.parametrize("name", corruptions_for(3))
def test_a_part_of_a_set_is_corrupted_as_in_the_whole_and_twice_alike(name, monkeypatch):
    """A chunk ends between the images of the part."""
    monkeypatch.setattr(corruptions, "CHUNK", 4)
    for images in (COLOURS, DIGITS):
        if name not in corruptions_for(images.shape[-1]):
            continue
        for severity in (1, 2, 3, 4, 5):
            whole = corrupt(images, range(6), name, severity, seed=0)
            assert whole.dtype == np.uint8 and whole.shape == images.shape
            assert (corrupt(images[3:5], [3, 4], name, severity, seed=0) == whole[3:5]).all()
            assert (whole != images).any()


def test_seed_severity_and_number_name_the_random_numbers():
    def made(number=0, severity=1, seed=0):
        return corrupt(COLOURS[:1], [number], "shot_noise", severity, seed)

    assert (made() == made()).all()
    assert all((made() != other).any() for other in (made(number=1), made(severity=2), made(seed=1)))


def test_noise_has_the_deviation_and_the_share_it_is_said_to_have():
    grey = np.full((20, 32, 32, 3), 128, dtype=np.uint8)
    apart = corrupt(grey, range(20), "gaussian_noise", 5, 0).astype(float) - 127.5
    assert apart.std() / 255 == pytest.approx(0.10, rel=0.02)
    replaced = corrupt(grey, range(20), "impulse_noise", 5, 0) != 128
    assert replaced.mean() == pytest.approx(0.07, rel=0.05)
    counted = corrupt(grey, range(20), "shot_noise", 5, 0).astype(float)
    assert counted.std() / 255 == pytest.approx(np.sqrt(128 / 255 / 50), rel=0.03)


@pytest.mark.parametrize("edge", ["mirror", "reflect"])
def test_bilinear_reading_is_scipys(edge):
    generator = np.random.RandomState(2)
    x = generator.rand(2, 7, 9, 1)
    rows, columns = generator.uniform(-6, 12, (2, 2, 5, 4))
    ours = bilinear(x, rows, columns, edge)
    for image, row, column, found in zip(x, rows, columns, ours):
        scipys = map_coordinates(image[..., 0], [row, column], order=1, mode=edge)
        np.testing.assert_allclose(found[..., 0], scipys, atol=1e-12)


def test_what_moves_nothing_changes_nothing():
    x = COLOURS / 255
    still = np.zeros(6)
    np.testing.assert_allclose(corruptions.moved(x, 3, 1e-3, still), x)
    assert np.abs(corruptions.contrast(x, [], 1.0).astype(int) - as_pixels(x)).max() <= 1
    unmoved = [np.random.RandomState(0)] * 6
    gap = corruptions.elastic_transform(x, unmoved, 0, 0, 0).astype(int) - COLOURS
    assert np.abs(gap).max() <= 1  # rounding of 255 * (v / 255) down


def test_a_trail_points_where_it_should():
    x = np.zeros((1, 9, 9, 1))
    x[0, 4, 4] = 1
    trail = corruptions.moved(x, 2, 1.0, np.array([0.0]))[0, ..., 0]
    assert set(zip(*np.nonzero(trail))) == {(4, column) for column in range(5)}  # it is read to the right
    assert trail.sum() == pytest.approx(1)


def test_hue_saturation_and_value_agree_with_the_standard_library():
    import colorsys

    x = np.array([[[[0.2, 0.6, 0.4], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]]])
    saturated = corruptions.saturate(x, [], 2.0, 0.1)[0, 0]
    brighter = corruptions.brightness(x, [], 0.3)[0, 0]
    for pixel, more, light in zip(x[0, 0], saturated, brighter):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        expected = 255 * np.array(colorsys.hsv_to_rgb(h, min(2 * s + 0.1, 1), v))
        assert np.abs(more - expected).max() <= 1
        expected = 255 * np.array(colorsys.hsv_to_rgb(h, s, min(v + 0.3, 1)))
        assert np.abs(light - expected).max() <= 1


def test_fog_is_deterministic_fills_its_range_and_keeps_white_white():
    cloud = corruptions.plasma([np.random.RandomState(0)], 32, 3.0)
    assert (cloud.min(), cloud.max()) == (0.0, 1.0)
    # A smoother cloud bends less from neighbour to neighbour.
    generators = [[np.random.RandomState(seed) for seed in range(20)] for _ in range(2)]
    smooth, rough = (corruptions.plasma(some, 32, decay) for some, decay in zip(generators, (3.0, 1.75)))
    bends = [np.abs(np.diff(cloud, n=2)).mean() for cloud in (smooth, rough)]
    assert bends[0] < 0.7 * bends[1]
    white = np.ones((1, 8, 8, 3))
    assert corruptions.fog(white, [np.random.RandomState(0)], 1.0, 2.0).max() == 255


def test_glass_takes_neighbours_from_above_and_from_the_left():
    x = np.zeros((50, 8, 8, 1))
    x[:, 3, 3] = 1
    found = corruptions.glass_blur(x, [np.random.RandomState(i) for i in range(50)], 0.01, 1, 1)
    reached = {(row, column) for _, row, column, _ in zip(*np.nonzero(found))}
    assert reached == {(3, 3), (3, 4), (4, 3), (4, 4)}


def test_edges_lie_on_the_rim_of_a_square_and_nowhere_else():
    image = np.zeros((16, 16))
    image[5:11, 5:11] = 200
    found = edges(image, 50, 150)
    near_rim = np.zeros((16, 16), dtype=bool)
    near_rim[4:12, 4:12] = True
    near_rim[6:10, 6:10] = False
    assert found.any() and not (found & ~near_rim).any()
    assert not edges(np.full((16, 16), 7.0), 50, 150).any()


def test_equalising_spreads_levels_evenly():
    image = np.repeat(np.arange(4, dtype=np.uint8), 4).reshape(4, 4)
    assert sorted(set(equalised(image).ravel().tolist())) == [0, 85, 170, 255]


def test_another_name_severity_or_type_is_refused():
    for images, name, severity in ((COLOURS, "rain", 1), (COLOURS, "fog", 6), (COLOURS / 255, "fog", 1)):
        with pytest.raises(ValueError, match="expected"):
            corrupt(images, range(6), name, severity, 0)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_a_lens_zooms_by_the_published_factors(severity):
    """What the published program computes: float steps of 0.01, of which rounding adds a last one twice."""
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    assert len(factors) == (7, 12, 16, 21, 26)[severity - 1]
    x = COLOURS[0] / 255
    total = x.copy()
    for factor in factors:
        kept = int(np.ceil(32 / factor))
        start = (32 - kept) // 2
        large = zoom(x[start : start + kept, start : start + kept], (factor, factor, 1), order=1)
        trim = (len(large) - 32) // 2
        total += large[trim : trim + 32, trim : trim + 32]
    expected = as_pixels(total / (len(factors) + 1)).astype(int)
    assert np.abs(corrupt(COLOURS[:1], [0], "zoom_blur", severity, 0)[0] - expected).max() <= 1  # last bits


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 3), (224, 224), (225, 300)], ids=str)
def test_images_of_any_size_are_corrupted(shape):
    images = np.random.RandomState(5).randint(0, 256, (1, *shape, 3)).astype(np.uint8)
    for name in corruptions_for(3):
        found = corrupt(images, [0], name, 5, 0)
        assert found.shape == images.shape and found.dtype == np.uint8
