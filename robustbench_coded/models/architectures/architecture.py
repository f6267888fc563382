"""What the registry says of one architecture. Importing this does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """One line of ``csrobust list models``.

    Attributes:
        name: as given to ``--arch``.
        description: what it is, and where it comes from.
        constructor: ``module:class`` inside ``models.architectures``.
        parameters: keyword arguments that make the class this architecture.
        pattern: regular expression of further names; its groups are integer keyword arguments.
        resolver: ``module:function`` beside the constructor's, for names that no expression describes: it
            answers the architecture of a name, or None.
        takes_dropout: whether its blocks can have dropout.
        takes_image_size: whether it is made for one image size, which the name does not say.
        image_size: height and width in pixels that the name says; None where it says none.
        stochastic: how its activation samples in every answer; None where nothing does.
        variants: the parts that leave no trace in its weights: by keyword argument of the class, the forms
            that published networks have beside its default. ``variants.py`` names and enumerates them.
    """

    name: str
    description: str
    constructor: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pattern: str | None = None
    resolver: str | None = None
    takes_dropout: bool = False
    takes_image_size: bool = False
    image_size: int | None = None
    stochastic: str | None = None
    variants: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
