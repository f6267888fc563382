"""What a machine lacks for `make gpu`; nothing printed and exit code 0 where nothing is missing."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec

import torch

PEERS = ("torchattacks", "pyautoattack")


def missing() -> Iterator[str]:
    """One line for each thing that is not here, and how to get it."""
    if not torch.accelerator.device_count():
        built = torch.version.cuda
        yield (
            f"no GPU: torch {torch.__version__} was built for CUDA {built}, but finds none; check nvidia-smi"
            if built
            else f"no GPU support: torch {torch.__version__} was built without CUDA; install a build with it"
        )
    for package in PEERS:
        if find_spec(package) is None:
            yield f"no {package}: pip install '.[gpu]'"


if __name__ == "__main__":
    lacks = list(missing())
    sys.exit("\n".join(f"make gpu: {line}" for line in lacks) if lacks else 0)
