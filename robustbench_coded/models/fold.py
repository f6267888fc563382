"""Batch-norms folded into the convolutions before them: in eval mode the two are one convolution."""

from collections import Counter
from typing import TypeGuard

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> int:
    """Folds, in place, each batch-norm that follows a convolution and is all that the convolution feeds.

    The batch-norm becomes ``nn.Identity``, so the network keeps its modules, their names and its blocks.

    Args:
        network: in eval mode; where it has batch-norms, ``torch.fx`` must be able to trace it.
    Returns:
        How many were folded.
    Raises:
        Exception: tracing failed, in the many ways that a network from outside can make it fail.
    """
    modules = dict(network.named_modules())
    if not any(isinstance(module, nn.BatchNorm2d) for module in modules.values()):
        return 0
    graph = fx.Tracer().trace(network)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    folded = 0
    for node in graph.nodes:
        before = node.args[0] if node.args else None
        if not (_calls(node, nn.BatchNorm2d, modules) and _calls(before, nn.Conv2d, modules)):
            continue
        conv, bn = modules[str(before.target)], modules[str(node.target)]
        # What a pre-activation network adds to its stem's output is not normalised.
        used_elsewhere = len(before.users) > 1 or calls[before.target] > 1 or calls[node.target] > 1
        if used_elsewhere or bn.running_var is None:
            continue
        _replace(network, str(before.target), fuse_conv_bn_eval(conv, bn))
        _replace(network, str(node.target), nn.Identity())
        folded += 1
    return folded


def _calls(node: object, kind: type[nn.Module], modules: dict[str, nn.Module]) -> TypeGuard[fx.Node]:
    """Whether the node calls one of torch's own modules of a kind; subclasses of them are traced inside."""
    return (
        isinstance(node, fx.Node) and node.op == "call_module" and isinstance(modules[str(node.target)], kind)
    )


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
