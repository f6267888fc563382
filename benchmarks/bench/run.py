"""Runs one benchmark, from its options to its figures."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.bench import workloads
from benchmarks.bench.timing import (
    TimedContender,
    Timing,
    interleaved,
    machine,
    peak_memory,
)
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.device import device_named
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.prepare import Computed, prepare_model
from robustbench_coded.paper.training.fresh import build
from robustbench_coded.threads import torch_threads

CLASSES = 10
SHAPES = {"digits-cnn": (1, 8, 8)}  # image shapes of networks that do not take CIFAR images
CIFAR = (3, 32, 32)


@dataclass(frozen=True)
class BenchOptions:
    """What is timed, and how often.

    Attributes:
        checkpoint: its network is timed; None for ``arch`` with random weights.
        arch: name of an architecture.
        images: K, a multiple of 8; the data are random, since time does not depend on them.
        steps: of every PGD.
        rounds: timed calls of each contender.
        gradients_only: leave out coded inference.
        device: torch device as text; None takes CUDA where there is one.
        threads: CPU threads; None takes torch's own choice.
    """

    checkpoint: Path | None = None
    arch: str = "resnet20"
    images: int = 128
    steps: int = 10
    rounds: int = 7
    gradients_only: bool = False
    device: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class BenchSection:
    """Contenders that were measured in turns.

    Attributes:
        timings: in order.
        memory: peak bytes of one call by contender; None if the system does not report it.
    """

    title: str
    timings: list[Timing]
    memory: dict[str, int | None]


@dataclass(frozen=True)
class BenchReport:
    """Attributes:
    options: as given.
    machine: processor, load, versions.
    sections: the measurements.
    preparation: for each way of differentiating the model, the seconds it took to prepare
        and the comparison with the original.
    notes: what could not be measured.
    """

    options: BenchOptions
    machine: dict[str, Any]
    sections: list[BenchSection]
    preparation: dict[str, tuple[float, str]]
    notes: list[str]


def bench(
    options: BenchOptions,
    tell: Callable[[str], None] = lambda text: None,
    others: Callable[[workloads.Workload], tuple[list[TimedContender], list[str]]] = lambda workload: (
        [],
        [],
    ),
) -> BenchReport:
    """Measures everything, section by section.

    Args:
        tell: is told what is measured next.
        others: attacks of other packages on standard inference, and notes; the first of them is what costs
            of gradients are compared with, if there is one.
    Raises:
        InputError: an unknown architecture, a checkpoint or a number that cannot be used.
    """
    if options.images < workloads.SMALL_K or options.images % workloads.SMALL_K:
        raise InputError(
            f"--images {options.images} is not a multiple of {workloads.SMALL_K}; write for example 128"
        )
    device = device_named(options.device)
    with torch_threads(options.threads):
        tell("preparing the model")
        workload, preparation, notes = _workload(options, device)
        beside, more = others(workload)
        notes += more
        reference = beside[0].name if beside else workloads.AS_LOADED
        gradients = [*beside, *workloads.gradient_contenders(workload, reference)]
        sections = []
        planned = [
            (f"gradients: {workload.steps} steps on {workload.k} images, standard inference", gradients)
        ]
        if not options.gradients_only:
            planned += [
                (
                    "gradients through RCI, against as many images without",
                    workloads.coded_contenders(workload),
                ),
                ("inference, Table 4 of arXiv 2510.00253", workloads.inference_contenders(workload)),
            ]
        for title, contenders in planned:
            tell(title)
            timings = interleaved(contenders, options.rounds, device)
            memory = {contender.name: peak_memory(contender.run, device) for contender in contenders}
            sections.append(BenchSection(title, timings, memory))
        return BenchReport(options, machine(device), sections, preparation, notes)


def _workload(
    options: BenchOptions, device: torch.device
) -> tuple[workloads.Workload, dict[str, tuple[float, str]], list[str]]:
    model, shape = _model(options)
    model = model.to(device)
    x = torch.rand(options.images, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    gradients: dict[str, PixelModel] = {}
    preparation, notes = {}, []
    for precision in get_args(Computed):
        started = time.perf_counter()
        prepared, info = prepare_model(model, x[:32], precision=precision)
        preparation[precision] = (time.perf_counter() - started, str(info))
        if info.precision == precision:
            gradients[precision] = prepared
        else:
            notes.append(f"{precision} was not measured: {info}")
    return workloads.Workload(model, gradients, x, options.steps), preparation, notes


def _model(options: BenchOptions) -> tuple[PixelModel, tuple[int, ...]]:
    """The model as loaded or built, and the shape of its images."""
    if options.checkpoint is None:
        shape = SHAPES.get(options.arch, CIFAR)
        network = build(options.arch, CLASSES, shape[0])
        plain = KNOWN[shape[0]]["none"]
        return PixelModel(network, plain.mean, plain.std, classes=CLASSES, arch=options.arch), shape
    loaded = load_checkpoint(options.checkpoint)
    plain = loaded.normalisation or KNOWN[loaded.channels]["none"]
    size = SHAPES.get(loaded.arch, CIFAR)[1:] if loaded.image_size is None else (loaded.image_size,) * 2
    model = PixelModel(loaded.network, plain.mean, plain.std, classes=loaded.classes, arch=loaded.arch)
    return model, (loaded.channels, *size)
