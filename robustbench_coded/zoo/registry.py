"""The zoo by name: small defences whose robust accuracy is known. Needs no torch until an entry is loaded."""

from robustbench_coded.zoo.entries import ENTRIES
from robustbench_coded.zoo.entry import EXAMPLES, ZooEntry

ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in ENTRIES}

__all__ = ["EXAMPLES", "ZOO", "ZooEntry"]
