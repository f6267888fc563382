"""``csrobust probe``: what a defence does, whatever it says of itself."""

import json
from collections.abc import Iterator
from typing import Any

from msgspec import to_builtins

from robustbench_coded.cli.eval_options import SHARED, config_from, takes_only
from robustbench_coded.cli.foreign_output import foreign_output
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.schema.evaluated import ProbeRecord

OPTIONS = (
    "ckpt", "rci", "coded", "defence", "standard", "data", "data_dir", "limit", "first", "batch_size",
    "seed", "arch", "normalize", "device", "threads", "as_json",
)  # fmt: skip


@takes_only(*OPTIONS)
def probe_command(*, as_json: bool, **options: Any) -> int:
    """Measure whether defences are random or batch-dependent.

    Also measures whether their gradients are usable. The exit code is 1 if a defence contradicts its
    declaration.
    """
    from robustbench_coded.evaluation.setup.prepare import prepare
    from robustbench_coded.evaluation.setup.zoo_entry import with_zoo

    rest = {name: default for name, (_, default) in SHARED.items() if name not in OPTIONS}
    for name in ("quiet", "as_json"):
        rest.pop(name, None)
    with foreign_output():
        config, in_memory = with_zoo(config_from(**{**rest, **options, "attacks": ["fgsm"]}))
        probes = prepare(config, in_memory, refuse=False).probes
    if as_json:
        print(json.dumps(to_builtins(probes)))
    else:
        for probe in probes:
            _show(probe)
    return 1 if any(probe.contradictions for probe in probes) else 0


def _show(probe: ProbeRecord) -> None:
    sizes = "".join(f" {name}={size}" for name, size in (("K", probe.k), ("N", probe.n)) if size is not None)
    print(one_line(f"{probe.defence}{sizes} on {probe.checkpoint}"))
    for name, finding in _findings(probe.figures, probe.gradients):
        print(f"  {name:<16} {finding}")
    for text in probe.contradictions:
        print(f"  contradiction: it {text}")
    for text in probe.warnings:
        print(f"  warning: {text}")


def _findings(figures: dict[str, Any], gradients: dict[str, float]) -> Iterator[tuple[str, str]]:
    """The figures that decide, in words; --json has them all."""
    if figures["unanswered"] == 1:
        yield "logits", "NaN or infinite; nothing else was measured"
        return
    yield "same draw", _moved(figures["same_draw"], "the same input again")
    yield "other draws", _moved(figures["other_draws"], "another draw")
    by = figures["co_batched_by"]
    yield (
        "co-batched",
        _moved(figures["co_batched"], f"one co-batched input {by}" if by else "co-batched inputs"),
    )
    if figures["double"] is not None:
        yield "float64", _moved(figures["double"], "computing in float64")
    agreement = ""
    if "cosine" in gradients:
        agreement = f"; of two draws: cosine {gradients['cosine']:.2f}, equal signs {gradients['sign']:.0%}"
    yield "gradients", f"zero at {gradients['zero_share']:.0%} of inputs{agreement}"


def _moved(change: float, what: str) -> str:
    return f"{what} moved no logit" if change == 0 else f"{what} moved logits by up to {change:.2g}"
