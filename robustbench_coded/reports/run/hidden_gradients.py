"""The operators that a defence's gradients vanish in, as the probe recorded them."""

from typing import Any

from attacks.hiding_operator import describe
from robustbench_coded.schema.manifest import RunManifest


def hidden_gradients(manifest: RunManifest) -> list[str]:
    """A sentence for each defence with such operators."""
    said: dict[str, None] = {}
    for probe in manifest.probes:
        clauses = [describe(met) for met in probe.hidden_by if _usable(met)]
        if clauses:
            who = f"{probe.defence} on {probe.checkpoint}"
            said[f"{who}: {'; '.join(clauses)}. The relaxed- attacks smooth their backward pass."] = None
    return list(said)


def _usable(met: dict[str, Any]) -> bool:
    scale = met.get("scale")
    return (
        isinstance(met.get("operator"), str)
        and type(met.get("calls")) is int
        and (scale is None or type(scale) in (int, float))
    )
