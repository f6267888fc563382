"""TorchScript, read line by line in Python, where operators can be relaxed."""

from typing import Any

import torch

_LONGEST = 10_000  # turns of a loop


def interpreted(compiled: Any, args: tuple[Any, ...]) -> Any:
    """What a compiled function or method answers to ``args``, in Python.

    Raises:
        NotImplementedError: for what this does not read.
    """
    graph = compiled.inlined_graph
    owner = getattr(compiled, "owner", None)
    inputs = list(graph.inputs())
    given = args if owner is None else (owner() if callable(owner) else owner, *args)
    if len(inputs) != len(given):
        raise NotImplementedError(f"{len(inputs)} inputs, {len(given)} of them given")
    values = {each.debugName(): value for each, value in zip(inputs, given)}
    found = _block(graph, values)
    return found[0] if len(found) == 1 else tuple(found)


def _block(block: Any, values: dict[str, Any]) -> list[Any]:
    for node in block.nodes():
        answers = _node(node, [values[each.debugName()] for each in node.inputs()], values)
        outputs = list(node.outputs())
        for each, answer in zip(outputs, answers):
            values[each.debugName()] = answer
    return [values[each.debugName()] for each in block.outputs()]


def _node(node: Any, given: list[Any], values: dict[str, Any]) -> list[Any]:
    kind = node.kind()
    if kind == "prim::Constant":
        return [node.output().toIValue()]
    if kind == "prim::GetAttr":
        return [getattr(given[0], node.s("name"))]
    if kind in ("prim::ListConstruct", "prim::TupleConstruct"):
        return [list(given) if kind == "prim::ListConstruct" else tuple(given)]
    if kind in ("prim::ListUnpack", "prim::TupleUnpack"):
        return list(given[0])
    if kind in ("prim::NumToTensor", "prim::unchecked_cast", "prim::Uninitialized"):
        return [torch.tensor(given[0])] if kind == "prim::NumToTensor" else [given[0] if given else None]
    if kind in ("prim::RaiseException", "prim::Print"):
        return []
    if kind == "prim::If":
        yes, no = node.blocks()
        return _block(yes if bool(given[0]) else no, values)
    if kind == "prim::Loop":
        return _loop(node, given, values)
    if kind == "prim::dtype":
        return [given[0].dtype]
    if kind == "prim::device":
        return [given[0].device]
    if not kind.startswith("aten::"):
        raise NotImplementedError(kind)
    return _operator(node, kind.removeprefix("aten::"), given)


def _loop(node: Any, given: list[Any], values: dict[str, Any]) -> list[Any]:
    most, goes_on, *carried = given
    (body,) = node.blocks()
    for turn in range(min(most, _LONGEST)):
        if not goes_on:
            break
        names = [each.debugName() for each in body.inputs()]
        values.update(zip(names, [turn, *carried]))
        goes_on, *carried = _block(body, values)
    return carried


def _operator(node: Any, name: str, given: list[Any]) -> list[Any]:
    """An operator of torch; several of its arguments may have to be named."""
    if name in ("__getitem__", "len", "Int", "Float", "Bool", "ScalarImplicit"):
        by_hand = {"__getitem__": lambda x, i: x[i], "len": len, "Int": int, "Float": float, "Bool": bool}
        return [by_hand.get(name, lambda x: x.item())(*given)]  # type: ignore[operator]
    packet = getattr(torch.ops.aten, name)
    overload = getattr(packet, node.schema().split("(")[0].partition(".")[2] or "default")
    arguments = overload._schema.arguments
    places = [value for value, each in zip(given, arguments) if not each.kwarg_only]
    named = {each.name: value for value, each in zip(given, arguments) if each.kwarg_only}
    answer = overload(*places, **named)
    return list(answer) if isinstance(answer, tuple) else [answer]
