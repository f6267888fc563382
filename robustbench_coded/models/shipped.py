"""The checkpoints that come with the package, by name: ``--ckpt digits-erm``."""

import tomllib
from functools import cache
from pathlib import Path

# The wheel holds a copy of checkpoints/ inside the package; a checkout has the folder itself.
_HOMES = (Path(__file__).parents[1] / "shipped", Path(__file__).parents[2] / "checkpoints")


@cache
def _home() -> Path | None:
    return next((home for home in _HOMES if (home / "manifest.toml").is_file()), None)


@cache
def shipped() -> dict[str, Path]:
    """Name -> file of every checkpoint that comes with the package."""
    home = _home()
    return {} if home is None else {path.stem: path for path in sorted(home.glob("*.safetensors"))}


def descriptions() -> dict[str, str]:
    """Name -> what a shipped checkpoint is, for a listing."""
    found = {}
    for name, path in shipped().items():
        entry = tomllib.loads((path.parent / "manifest.toml").read_text())[path.name]
        accuracy = f"clean accuracy {100 * entry['accuracy']:.1f}%"
        found[name] = f"{entry['arch']} on {entry['data']}, recipe {entry['recipe']}, {accuracy}"
    return found


def located(path: Path) -> Path:
    """The file that ``--ckpt`` means: the path where it exists, else the shipped checkpoint of that name."""
    return path if path.exists() else shipped().get(str(path), path)
