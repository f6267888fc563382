"""How much lies ahead and how long it takes here, before anything runs."""

import time
from collections.abc import Sequence

import torch

from robustbench_coded.engine.workers import worker_count
from robustbench_coded.evaluation.listener import Forecast
from robustbench_coded.evaluation.plan import Plan, Unit
from robustbench_coded.evaluation.prepare import Prepared
from robustbench_coded.evaluation.target import images_of

TIMED_IMAGES = 64


def forecast(prepared: Prepared, plan: Plan, pending: Sequence[Unit]) -> Forecast:
    """Images still to go and the seconds they take, from one timed forward and backward of each model."""
    per_image = {c.name: 0.0 for c in prepared.setup.checkpoints}
    images: dict[str, int] = dict.fromkeys(per_image, 0)
    for unit in pending:
        images[unit.row.subject.checkpoint] += unit.images
    for name, count in images.items():
        if count:
            per_image[name] = _seconds_per_image(prepared, name)
    workers = min(worker_count(prepared.setup.config, prepared.bench.device), max(1, len(pending)))
    return Forecast(
        units=len(pending),
        images=sum(images.values()),
        done=len(plan.units) - len(pending),
        seconds=sum(per_image[name] * images[name] for name in images) / workers,
        seconds_per_image=per_image,
    )


def _seconds_per_image(prepared: Prepared, checkpoint: str) -> float:
    bench = prepared.bench
    model = bench.model(checkpoint)
    count = min(TIMED_IMAGES, prepared.setup.examples)
    x = bench.data.batch(range(count))[0].to(bench.device)
    best = float("inf")
    before = torch.get_num_threads()
    torch.set_num_threads(prepared.setup.threads)
    try:
        for _ in range(2):  # the first pays for warming up
            start = time.perf_counter()
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(model(leaf).sum(), leaf)
            if bench.device.type == "cuda":
                torch.cuda.synchronize(bench.device)
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return best / images_of(model.network, count)
