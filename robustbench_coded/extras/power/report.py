"""Planted weaknesses in a run folder and in its report."""

import msgspec
from msgspec import Struct

from robustbench_coded.judge.run import Run
from robustbench_coded.reports.render.sections import Legend, Section
from robustbench_coded.reports.text.formatting import TextTable

STORED = "power.json"


class Detection(Struct, frozen=True):
    """A planted weakness: its name, its property, and the share of images in which attacks detect it."""

    weakness: str
    what: str
    share: float


class Power(Struct, frozen=True):
    """Shares of planted weaknesses that attacks detect in one defence.

    Attributes:
        about: the defence and its setting, in words.
        images: images with a weakness.
        attacks: how many attacks looked for it.
        seconds: of all evaluations together.
        control: the share of these images that fell without any weakness.
        found: each weakness.
    """

    about: str
    images: int
    attacks: int
    seconds: float
    control: float
    found: tuple[Detection, ...]

    @property
    def seen(self) -> int:
        """Weaknesses detected in at least half of the images that do not fall by themselves."""
        return sum(row.share >= (1 + self.control) / 2 for row in self.found)


def sections(run: Run) -> list[Section]:
    """Sections of the report; empty before anything was measured."""
    path = run.path / STORED
    measured = msgspec.json.decode(path.read_bytes(), type=list[Power]) if path.exists() else []
    return [
        Section(
            "power",
            f"Planted weaknesses: {power.about}",
            (
                TextTable.of(
                    power.found,
                    {
                        "planted weakness": lambda row: row.weakness,
                        "property": lambda row: row.what,
                        "found in": lambda row: f"{100 * row.share:.0f}%",
                    },
                ),
                Legend(
                    f"The {power.attacks} attacks of this run detect {power.seen} of {len(power.found)} "
                    f"weaknesses in at least half of {power.images} images that were correct in every draw. "
                    "Each weakness is one perturbation within eps that makes the defence misclassify the "
                    f"image. Without a weakness, the same attacks change {100 * power.control:.0f}% of the "
                    "images. A weakness of the defence itself that is hidden in the same way as one not "
                    "detected here may have been missed."
                ),
            ),
        )
        for power in measured
    ]
