"""Table 3 of arXiv 2510.00253 on a GPU: float32, TF32 and bfloat16 beside torchattacks and pyautoattack.

    python benchmarks/speed/table3_gpu.py                                   the shipped digits checkpoint
    python benchmarks/speed/table3_gpu.py --ckpt resnet20.pt --data npz:cifar10_test.npz

Standard inference and RCI at N = 1.5K by an evaluation whose attacks run in each precision (scores are always
float32), and the same attacks on standard inference by torchattacks and pyautoattack. Writes
benchmarks/table3_gpu.md: seconds, peak memory and accuracies. `--device cpu` runs all parts without a GPU,
where float32 and TF32 are the same.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks.accelerator import synchronise
from benchmarks.bench.table import pipes
from benchmarks.bench.timing import in_words, machine, peak_memory
from robustbench_coded import evaluate
from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.options.device import device_named
from robustbench_coded.models import prepare
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parent / "table3_gpu.md"
ATTACKS = ("fgsm", "pgd-10", "pgd-100", "apgd-ce-100")
PRECISIONS = ("float32", "TF32", "bfloat16")
PACKAGES = ("torchattacks", "pyautoattack")
BATCH = 128
RCI = "rci:N=1.5K"


@dataclass(frozen=True)
class Setting:
    """What every row of the table is measured on; eps in pixels of [0, 1]."""

    ckpt: str
    data: str
    limit: int
    eps: float
    device: torch.device
    attacks: tuple[str, ...] = ATTACKS
    batch: int = BATCH


@dataclass(frozen=True)
class Row:
    """One method in one precision: accuracies are fractions by attack; memory in bytes, None if unknown."""

    method: str
    precision: str
    inference: str
    seconds: float
    memory: int | None
    accuracy: dict[str, float]


def ours(setting: Setting, precision: str) -> tuple[list[Row], tuple[Any, Any]]:
    """One evaluation for each kind of inference, and the mean and deviation that it settled on."""
    rows, normalisation = [], {}
    for inference in ("standard", "RCI"):
        with tempfile.TemporaryDirectory() as folder:

            def run(inference: str = inference, out: Path = Path(folder) / "run") -> dict[str, float]:
                done = evaluate(
                    setting.ckpt,
                    setting.data,
                    defences=[] if inference == "standard" else [RCI],
                    standard=inference == "standard",
                    attacks=setting.attacks,
                    limit=setting.limit,
                    first=True,
                    batch_sizes=setting.batch,
                    eps=setting.eps,
                    device=str(setting.device),
                    attack_precision="bfloat16" if precision == "bfloat16" else "float32",
                    out=out,
                )
                normalisation.update(done.manifest.checkpoints[0].normalisation)
                table = done.summary.set_index("attack")
                return {name: float(table.accuracy[name]) for name in ("clean", *setting.attacks)}

            before, prepare.TF32_ALLOWED = prepare.TF32_ALLOWED, precision == "TF32"
            try:
                rows.append(_measured("csrobust", precision, inference, run, setting.device))
            finally:
                prepare.TF32_ALLOWED = before
    return rows, (normalisation["mean"], normalisation["std"])


def theirs(setting: Setting, package: str, precision: str, normalisation: tuple[Any, Any]) -> Row:
    """A package's own attacks on standard inference, in a loop over batches that scores what comes out."""
    loaded = load_checkpoint(setting.ckpt)
    model = PixelModel(loaded.network, *normalisation, classes=loaded.classes, arch=loaded.arch)
    build = _torchattacks if package == "torchattacks" else _pyautoattack
    attacks = build(model.to(setting.device), setting)
    images = load_data(setting.data)

    def run() -> dict[str, float]:
        right = dict.fromkeys(attacks, 0)
        for start in range(0, setting.limit, setting.batch):
            places = range(start, min(start + setting.batch, setting.limit))
            x, y = (t.to(setting.device) for t in images.batch(places))
            for name, attack in attacks.items():
                perturbed = attack(x, y)
                with torch.no_grad():
                    right[name] += int((model(perturbed).argmax(1) == y).sum())
        return {name: count / setting.limit for name, count in right.items()}

    with prepare.tf32(precision == "TF32"), redirect_stdout(io.StringIO()):
        return _measured(package, precision, "standard", run, setting.device)


Attacks = dict[str, Callable[[Tensor, Tensor], Tensor]]


def _torchattacks(model: nn.Module, setting: Setting) -> Attacks:
    import torchattacks

    found: Attacks = {"clean": lambda x, y: x}
    for name in setting.attacks:
        if name == "fgsm":
            found[name] = torchattacks.FGSM(model, eps=setting.eps)
        elif name.startswith("pgd-"):
            steps = int(name.removeprefix("pgd-"))
            alpha = setting.eps / (4 if steps <= 20 else 8)
            found[name] = torchattacks.PGD(model, eps=setting.eps, alpha=alpha, steps=steps)
    return found


def _pyautoattack(model: nn.Module, setting: Setting) -> Attacks:
    from pyautoattack.autopgd_base import APGDAttack

    found: Attacks = {"clean": lambda x, y: x}
    for name in setting.attacks:
        if name.startswith("apgd-ce-"):
            steps = int(name.removeprefix("apgd-ce-"))
            attack = APGDAttack(model, n_iter=steps, eps=setting.eps, device=str(setting.device))
            found[name] = attack.perturb
    return found


def _measured(
    method: str, precision: str, inference: str, run: Callable[[], dict[str, float]], device: torch.device
) -> Row:
    found: list[tuple[float, dict[str, float]]] = []

    def timed() -> None:
        started = time.perf_counter()
        accuracy = run()
        synchronise(device)
        found.append((time.perf_counter() - started, accuracy))

    memory = peak_memory(timed, device)
    return Row(method, precision, inference, found[0][0], memory, found[0][1])


def report(rows: list[Row], missing: list[str], setting: Setting) -> str:
    """The table in Markdown, and what is not in it."""
    heads = ("method", "precision", "inference", "seconds", "peak MB", "clean", *setting.attacks)
    cells = [
        (
            *(row.method, row.precision, row.inference, f"{row.seconds:.1f}"),
            "–" if row.memory is None else f"{row.memory / 1e6:.0f}",
            *(f"{100 * row.accuracy[a]:.1f}" if a in row.accuracy else "–" for a in heads[5:]),
        )
        for row in rows
    ]
    parts = [
        "# Table 3 on a GPU",
        f"{setting.ckpt}, {setting.limit:,} images of {setting.data} in batches of {setting.batch}, linf, "
        f"eps {setting.eps:.4g}. RCI with N = 1.5K. Seconds of wall time; csrobust's include everything from "
        "the checkpoint to the report. Peak memory is what a row needs beyond what was in use before it. "
        "Accuracies in percent.",
        pipes([heads, *cells]),
    ]
    if setting.device.type != "cuda":
        parts.append(f"Measured on {setting.device.type}: float32 and TF32 are the same there.")
    parts += [f"Not measured: {package} is not installed." for package in missing]
    return "\n\n".join([*parts, in_words(machine(setting.device)) + "."]) + "\n"


def measure(setting: Setting, precisions: tuple[str, ...] = PRECISIONS) -> tuple[list[Row], list[str]]:
    """All rows, and the packages that are not installed."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    rows: list[Row] = []
    for precision in precisions:
        print(f"... {precision}", file=sys.stderr)
        own, normalisation = ours(setting, precision)
        rows += own
        if precision != "bfloat16":  # the packages take the model as it is
            here = [package for package in PACKAGES if package not in missing]
            rows += [theirs(setting, package, precision, normalisation) for package in here]
    return rows, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ckpt", default="digits-erm")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int, default=640)
    parser.add_argument("--eps", type=float, default=0.3, help="0.0314 for CIFAR-10")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    device = device_named(given.device)
    if device.type != "cpu":  # one of several: workers on all of them have memory of their own
        device = torch.device(device.type, device.index or 0)
    setting = Setting(given.ckpt, given.data, given.limit, given.eps, device)
    write_text(given.out, report(*measure(setting), setting))
    print(given.out)


if __name__ == "__main__":
    main()
