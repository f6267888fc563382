"""What a library answers when it is asked for an architecture."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.normalisation import Normalisation


@dataclass(frozen=True)
class Definition:
    """A network without trained weights, as a library builds it.

    Attributes:
        network: on the CPU.
        classes: number of classes.
        channels: channels of the image.
        image_size: height and width in pixels; None where it takes any.
        from_pixels: whether it takes pixels in [0, 1], a normalisation of its own inside.
        normalisation: what a configuration beside the weights states; None where there is none.
        notes: what the library says about it, a sentence each.
    """

    network: nn.Module
    classes: int
    channels: int = 3
    image_size: int | None = None
    from_pixels: bool = False
    normalisation: Normalisation | None = None
    notes: tuple[str, ...] = ()


class WouldDownload(Exception):
    """Raised where a library turns to the network."""


@contextmanager
def nothing_downloaded() -> Iterator[None]:
    """Inside, torch's own downloads fail at once, and Hugging Face's client is told that it is offline."""

    def refuse(*_: Any, **__: Any) -> None:
        raise WouldDownload

    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with (
        mock.patch.dict("os.environ", offline),
        mock.patch("torch.hub.load_state_dict_from_url", refuse),
        mock.patch("torch.hub.download_url_to_file", refuse),
    ):
        yield


def called(spec: str, build: Callable[[], Any]) -> nn.Module:
    """What a library's constructor returns, with torch's global random state put back afterwards.

    Raises:
        InputError: it fails, wants to download, or returns no network.
    """
    with torch.random.fork_rng(devices=[]), nothing_downloaded():
        torch.manual_seed(0)  # what the weights do not overwrite is the same in every worker
        try:
            network = build()
        except WouldDownload:
            raise InputError(f"--arch {spec}: its definition downloads weights, which is refused") from None
        except Exception as error:  # a library can fail in any way
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"--arch {spec}: it raised {type(error).__name__}: {reason}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"--arch {spec}: expected a torch.nn.Module, got a {type(network).__name__}")
    return network.float().cpu()
