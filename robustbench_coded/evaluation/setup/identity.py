"""What makes a run this run: what its folder is named after, and what decides its outcomes."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from msgspec import to_builtins

from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint, Setup
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.schema.evaluated import Identity
from robustbench_coded.version import __version__


def fixed_facts(config: EvalConfig, setup: Setup, identity: Identity) -> dict[str, Any]:
    """What decides outcomes beside the rows themselves."""
    return {
        **_hashed(identity),
        # Another version may attack or score differently: what it computed is not taken over.
        "csrobust": __version__,
        "checkpoints": {c.name: _what_it_computes(c) for c in setup.checkpoints},
        "device": setup.device.split(":")[0],
        "threads": setup.threads,
        "group_images": setup.group_images,
        "draws": config.draws,
        "selection_draws": config.selection_draws,
        "aware_attacks": config.aware_attacks,
        "victims": config.victims,
        "drop": config.drop,
        "peer_raw": config.peer_raw,
        "adversarials": config.keeps_adversarials,
    }


def _hashed(identity: Identity) -> dict[str, Any]:
    """What goes into hashes. Which images were taken is in their digest, and was before it had a name."""
    return {name: value for name, value in to_builtins(identity).items() if name != "subset"}


def _what_it_computes(checkpoint: LoadedCheckpoint) -> list[Any]:
    """What decides a checkpoint's answers, and the gradients that attacks take of it."""
    c = checkpoint
    return [c.sha256, c.arch, c.mean, c.deviation, c.attack_precision, c.facts["gradients"]["prepared"]]


def folder_name(checkpoints: Sequence[LoadedCheckpoint], identity: Identity) -> str:
    """The checkpoint's name and a hash of what may not change within a run."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoints[0].name).strip(".-")[:60] or "run"
    if len(checkpoints) > 1:
        name += f"-and-{len(checkpoints) - 1}-more"
    content = json.dumps(_hashed(identity), sort_keys=True)
    return f"{name}-{hashlib.blake2b(content.encode(), digest_size=4).hexdigest()}"
