"""`make gpu-check`: csrobust on an accelerator beside the processor, with nothing that is not in the tree.

Verdicts and accuracies of the plain command on both; on the accelerator images a second, peak memory, a step
of PGD beside torchattacks', and waits of the host for the device in a step.
Digits and checkpoints/ are in the tree; 1,000 test images of CIFAR-10 are cut into build/gpu-check where
csrobust finds the data, so that a machine which gets this folder needs no more; the wide network has random
weights. At most eight minutes on one accelerator. Without one, two attacks on digits run on the imitation of
the tests, where times and memory mean nothing: `--smoke` is that. Writes build/gpu-check/report.md.
"""

import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench.run import BenchOptions, bench
from benchmarks.bench.table import cells, pipes
from benchmarks.bench.timing import in_words, machine
from benchmarks.speed.speed_third_party import third_party
from robustbench_coded import Run, attack, evaluate
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_text

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "gpu-check"
CUT = FOLDER / "cifar10_1000.npz"
EVERYWHERE = ROOT / "tests" / "accelerator" / "everywhere"
STEPS = 8


def cut_images() -> bool:
    """Whether 1,000 test images of CIFAR-10 are there, cut out of the whole set where that is found."""
    if not CUT.exists():
        try:
            data = load_data("cifar10")
        except InputError:
            return False
        x, y = data.batch(range(1000))
        CUT.parent.mkdir(parents=True, exist_ok=True)
        np.savez(CUT, x=(255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), y=y.numpy())
    return True


def beside(name: str, data: str, device: str, **options: Any) -> Iterator[tuple[str, ...]]:
    """The plain command on both: a row for each verdict and each accuracy, and whether verdicts are equal.

    Raises:
        SystemExit: a verdict differs.
    """
    ran: dict[str, tuple[Run, float]] = {}
    for where in ("cpu", device):
        out, started = FOLDER / f"{name}-{where.replace(':', '-')}", time.perf_counter()
        path = ROOT / "checkpoints" / f"{name}.safetensors"
        run = evaluate(path, data, defences=["rci:N=1.5K"], device=where, out=out, overwrite=True, **options)
        ran[where] = run, time.perf_counter() - started
    (cpu, on_cpu), (there, on_device) = ran.values()
    words = [{j.case: str(j.verdict.name) for j in run.judgements} for run in (cpu, there)]
    figures = [{row.case: row.accuracy for row in run.rows if row.measured} for run in (cpu, there)]
    yield name, "seconds, from the command to the report", f"{on_cpu:.1f}", f"{on_device:.1f}"
    for case, word in words[0].items():
        yield name, f"verdict: {case.subject.defence}, {case.threat}", word, words[1].get(case, "none")
    for case, accuracy in figures[0].items():
        other = f"{figures[1][case]:.1%}" if case in figures[1] else "not run"
        yield name, f"{case.subject.defence}, {case.threat}, {case.attack}", f"{accuracy:.1%}", other
    if words[0] != words[1]:
        raise SystemExit(f"gpu-check: verdicts differ between cpu and {device} on {name}: {words}")


def waits(device: str) -> str:
    """How often the host waits for the device in a step of PGD against a network alone."""
    x, _ = load_data("digits").batch(range(16))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval().requires_grad_(False)
    y, x, network = network(x).argmax(1).to(device), x.to(device), network.to(device)
    counted = []
    for steps in (STEPS, 2 * STEPS):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            if torch.device(device).type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
                attack(network, x, y, f"pgd-{steps}", 0.1)
                torch.cuda.set_sync_debug_mode("default")
                counted.append(sum("synchroni" in str(one.message) for one in told))
            else:
                from imitation_accelerator import State

                State.waits.clear()
                attack(network, x, y, f"pgd-{steps}", 0.1)
                counted.append(sum(State.waits.values()))
    return f"waits for the device in a step of PGD: {(counted[1] - counted[0]) / STEPS:.1f}"


def main() -> None:
    if not torch.accelerator.device_count():  # again, with the imitation in every process
        if str(EVERYWHERE) in os.environ.get("PYTHONPATH", ""):
            raise SystemExit("gpu-check: no accelerator, and torch is too old for the imitation of one")
        os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{EVERYWHERE}"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    device, real = f"{kind.type}:0", kind.type != "imitation"
    quick = {} if real else {"limit": 128, "attacks": ["fgsm", "transfer-pgd-10"]}
    rows = list(beside("digits-erm", "digits", device, **quick))
    said = [waits(device)]
    if real and cut_images():
        rows += beside("cifar10-erm-resnet20", f"npz:{CUT}", device, batch_size=128)
    elif real:
        said.append("CIFAR-10 was not found: its network was not evaluated")
    sizes = {"resnet20": 128, "wrn-28-10": 128} if real else {"digits-cnn": 8}
    parts = []
    for arch, images in sizes.items():
        report = bench(
            BenchOptions(arch=arch, images=images, rounds=3, gradients_only=True, device=device),
            others=third_party,
        )
        head, *table = cells(report.sections[0])
        parts.append(f"## A step of PGD: {arch}, {images} images\n\n" + pipes([("", "", *head[2:]), *table]))
    text = "\n\n".join(
        [
            f"# csrobust on {device}",
            in_words(machine(torch.device(device))) + ".",
            *([] if real else ["**An imitation on the processor: its times and memory mean nothing.**"]),
            pipes([("checkpoint", "what", "cpu", device), *rows]),
            "\n".join(f"- {line}" for line in said),
            *parts,
        ]
    )
    write_text(FOLDER / "report.md", text + "\n")
    print(text)


if __name__ == "__main__":
    main()
