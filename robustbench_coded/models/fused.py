"""Networks whose convolutions have biases, or whose batch-norms are folded into their convolutions.

Most definitions leave out the bias of a convolution before a batch-norm, which would take it off again; some
do not. An exported network may have each batch-norm multiplied into the convolution before it. Both are the
architecture that their other weights show, and both are run as they are stored.
"""

from collections.abc import Container, Mapping

import torch
from torch import fx, nn

from robustbench_coded.models.difference import Shapes
from robustbench_coded.models.refusal import Refused

BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def with_biases(shapes: Shapes, expected: Shapes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an architecture, with the biases of convolutions that a file has besides.

    Args:
        shapes: of the file. Where it has the bias of a convolution and nothing of the batch-norm that comes
            next among the names, that batch-norm is left out.
        expected: of the architecture, in its order.
    """
    found: dict[str, tuple[int, ...]] = {}
    scope, fused, folded = "", False, False
    for name, shape in expected.items():
        own = name.rpartition(".")[0]
        if own != scope:
            follows = fused
            folded = follows and _absent_batch_norm(own, shapes, expected)
            scope, fused = own, False
        if folded:
            continue
        found[name] = shape
        bias = f"{own}.bias"
        if name == f"{own}.weight" and len(shape) == 4 and bias in shapes and bias not in expected:
            found[bias] = shape[:1]
            fused = True
    return found


def _absent_batch_norm(scope: str, shapes: Shapes, expected: Shapes) -> bool:
    names = [f"{scope}.{part}" for part in BATCH_NORM]
    return f"{scope}.running_mean" in expected and not any(name in shapes for name in names)


def give_places(network: nn.Module, names: Container[str]) -> None:
    """In place: convolutions get the biases among ``names``; batch-norms that are not among them go."""
    for scope, module in list(network.named_modules()):
        if type(module) is nn.Conv2d and module.bias is None and f"{scope}.bias" in names:
            module.bias = nn.Parameter(torch.empty_like(module.weight[:, 0, 0, 0]), requires_grad=False)
        elif isinstance(module, nn.BatchNorm2d) and f"{scope}.running_mean" not in names:
            parent, _, child = scope.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())


def notes_on(network: nn.Module, given: Mapping[str, object]) -> list[str]:
    """What ``give_places`` will do to a network of the registry, a sentence each.

    Args:
        network: as its architecture has it.
        given: names of the file's weights.
    Raises:
        Refused: a bias has no place, or a batch-norm is missing that no convolution could have taken in.
    """
    modules = dict(network.named_modules())
    biased, folded = [], []
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d) and module.bias is None and f"{name}.bias" in given:
            if type(module) is not nn.Conv2d:
                raise Refused(f"{name[:80]}.bias has no place: this kind of convolution takes none")
            biased.append(name)
        if isinstance(module, nn.BatchNorm2d) and f"{name}.running_mean" not in given:
            folded.append(name)
    if folded:
        before = _convolutions_before(network, modules)
        if alone := [name for name in folded if before.get(name) not in biased]:
            raise Refused(f"{alone[0]} is missing, and no convolution before it can have taken it in")
        return [f"{len(folded)} of its batch-norms are folded into its convolutions, as it is run"]
    return [f"{len(biased)} of its convolutions have a bias beside a batch-norm"] if biased else []


def _convolutions_before(network: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """By batch-norm the convolution whose output it alone takes, as far as there is one."""
    found = {}
    for node in fx.Tracer().trace(network).nodes:
        before = node.args[0] if node.args else None
        if (
            node.op == "call_module"
            and isinstance(modules.get(str(node.target)), nn.BatchNorm2d)
            and isinstance(before, fx.Node)
            and before.op == "call_module"
            and isinstance(modules.get(str(before.target)), nn.Conv2d)
            and len(before.users) == 1
        ):
            found[str(node.target)] = str(before.target)
    return found
