"""Memory and seconds of `recompute` beside the plain gradient, at 1, 10 and 100 steps of a purifier.

    python benchmarks/speed/recompute.py        writes recompute.md (two minutes on two cores)

The step is the denoiser of `published:score-purification` (5,000 weights, 16 channels) on 16 images of
3x32x32; a larger network keeps more activations per image, which is all that the loop's column grows by.
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.bench.table import pipes
from benchmarks.bench.timing import in_words, machine, peak_memory
from benchmarks.smoke import smoke
from robustbench_coded import recompute
from robustbench_coded.extras.published.purification import Denoiser
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).parent / "recompute.md"
STEPS = (1, 10, 100)
IMAGES = 16
MMAP_THRESHOLD = -3


def loop(step: Callable[[Tensor, int], Tensor], x: Tensor, times: int) -> Tensor:
    for t in range(times):
        x = step(x, t)
    return x


def prepared(about: str | None, out: Path, rounds: int) -> argparse.Namespace:
    """Options as typed, in a process of one thread in which memory that is freed leaves it at once."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--out", type=Path, default=out)
    given = parser.parse_args()
    torch.set_num_threads(1)
    # What the allocator keeps is not what a gradient needs.
    if hasattr(mallopt := ctypes.CDLL(None), "mallopt"):
        mallopt.mallopt(MMAP_THRESHOLD, 65536)
    torch.manual_seed(0)
    return given


def measured(gradient: Callable[[], Tensor], given: argparse.Namespace) -> tuple[str, float]:
    """Peak memory of a gradient in MB, as text, and the least processor seconds of several."""
    peak = peak_memory(gradient, given.device)
    taken = []
    for _ in range(given.rounds):
        began = time.process_time()
        gradient()
        taken.append(time.process_time() - began)
    return "unknown" if peak is None else f"{peak / 1e6:.1f}", min(taken)


def main() -> None:
    given = prepared(__doc__, OUT, rounds=3)
    device = given.device
    denoiser = Denoiser(3).to(device).requires_grad_(False)
    x = torch.rand(IMAGES, 3, 32, 32, device=device)

    def step(x: Tensor, t: int) -> Tensor:
        return x + 0.3 * (denoiser(x, 0.25 * 0.98**t) - x) + 0.01 * torch.randn_like(x)

    def gradient(chain: Callable[..., Tensor], times: int) -> Tensor:
        torch.manual_seed(1)
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(chain(step, leaf, times).square().sum(), leaf)[0]

    rows: list[tuple[str, ...]] = [
        ("steps", "loop, MB", "recompute, MB", "loop, s", "recompute, s", "ratio", "gradient")
    ]
    for times in given.steps:
        equal = torch.equal(gradient(loop, times), gradient(recompute, times))
        figures = [measured(partial(gradient, chain, times), given) for chain in (loop, recompute)]
        memory, seconds = zip(*figures, strict=True)
        ratio = f"{seconds[1] / seconds[0]:.2f}"
        said = "equal to the last bit" if equal else "differs"
        rows.append((str(times), *memory, *(f"{taken:.3f}" for taken in seconds), ratio, said))
    parts = [
        "# Recomputing a chain of steps beside keeping it",
        f"`robustbench_coded.recompute` on a denoiser of 16 channels and {IMAGES} images of 3x32x32, each "
        "step with noise of its own. MB: peak above what is in use before the gradient. s: processor seconds "
        f"on one thread, the least of {given.rounds}.",
        pipes(rows),
        in_words(machine(device)) + ".",
    ]
    write_text(given.out, "\n\n".join(parts) + "\n")
    print(given.out)


if __name__ == "__main__":
    smoke("--rounds 1 --steps 2 --out FOLDER/recompute.md")
    main()
