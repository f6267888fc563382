"""Threads for what the main process asks networks itself: probes and self-tests."""

from contextlib import AbstractContextManager, nullcontext

import torch

from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.models.candidates import multiplications
from robustbench_coded.threads import few_threads


def own_threads(context: WorkerContext) -> AbstractContextManager[None]:
    """One thread while only small networks, loaded from files, answer; otherwise as many as there are."""
    names = [checkpoint.name for checkpoint in context.setup.checkpoints]
    if not names or any(name in context.setup.in_memory.models for name in names):
        return nullcontext()  # a user's module may count how often it is asked
    image = context.data.batch([0])[0].to(context.device)
    with torch.random.fork_rng(devices=[context.device] if context.device.type == "cuda" else []):
        most = max(multiplications(context.model(name), image) for name in names)
    return few_threads(most)
