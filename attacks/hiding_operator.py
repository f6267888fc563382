"""An operator that hides a defence's gradient, in words. Nothing here needs torch."""

from collections.abc import Mapping
from typing import Any


def describe(met: Mapping[str, Any]) -> str:
    """A clause about one operator: "gradients vanish in softmax at scale 150 (32 calls)".

    Args:
        met: ``operator``, ``calls`` and ``scale``, as ``attacks.relaxation.record.Met.plain`` has them.
    """
    scale, calls = met.get("scale"), met.get("calls", 0)
    at = "" if scale is None else f" at scale {scale:.3g}"
    return f"gradients vanish in {met['operator']}{at} ({calls} call{'' if calls == 1 else 's'})"
