"""safetensors files: a JSON header of names, types, shapes and places, then the bytes."""

import json

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from robustbench_coded.models.refusal import MAX_HEADER_BYTES, MAX_TENSORS, Refused, check_shape

ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL"), 1),
}


def looks_like(data: bytes) -> bool:
    """Whether the file begins as safetensors files do: the header's length, then its opening brace."""
    return len(data) > 8 and data[8:9] == b"{"


def read(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, and the text entries of the header's ``__metadata__``.

    Raises:
        Refused: truncated, a header that is too long or not JSON, sizes that do not add up.
    """
    header = _header(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Refused("its metadata are not text entries")
    if len(header) > MAX_TENSORS:
        raise Refused(f"more than {MAX_TENSORS} tensors")
    available = len(data) - 8 - int.from_bytes(data[:8], "little")
    for name, entry in header.items():
        _check_entry(name, entry, available)
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        raise Refused(f"damaged safetensors file ({str(error).splitlines()[0][:120]})") from None
    # save_model leaves out a weight that is another one, too, and writes which.
    tied = {name: kept for name, kept in metadata.items() if kept in tensors and name not in tensors}
    return {name: tensors[tied.get(name, name)] for name in (*header, *tied)}, metadata


def _header(data: bytes) -> dict[str, object]:
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise Refused(f"a safetensors header of {length} bytes; {MAX_HEADER_BYTES} is the most that is read")
    if length > len(data) - 8:
        raise Refused("truncated: its safetensors header is longer than the file")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        raise Refused("its safetensors header is not JSON: damaged, or not a checkpoint") from None
    if not isinstance(header, dict):
        raise Refused("its safetensors header is not JSON of the right form")
    return header


def _check_entry(name: str, entry: object, available: int) -> None:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise Refused(f"weight {name[:60]} has no type, shape and place in the header")
    item_bytes = ITEM_BYTES.get(str(entry["dtype"]))
    if item_bytes is None:
        raise Refused(
            f"weight {name[:60]} has the type {str(entry['dtype'])[:20]}; floats and integers are read"
        )
    elements = check_shape(f"weight {name[:60]}", entry["shape"], available // item_bytes)
    place = entry["data_offsets"]
    if (
        not isinstance(place, list)
        or len(place) != 2
        or not all(type(end) is int for end in place)
        or not 0 <= place[0] <= place[1] <= available
        or place[1] - place[0] != elements * item_bytes
    ):
        raise Refused(f"truncated or damaged: weight {name[:60]} does not fill its place in the file")
