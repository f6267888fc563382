"""The zoo by name: small defences whose robust accuracy is known. Needs no torch until an entry is loaded."""

from robustbench_coded.defences.named import register
from robustbench_coded.zoo.entries import ENTRIES
from robustbench_coded.zoo.entry import EXAMPLES, ZooEntry

ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in ENTRIES}
register({name: entry.build for name, entry in ZOO.items()})

__all__ = ["EXAMPLES", "ZOO", "ZooEntry"]
