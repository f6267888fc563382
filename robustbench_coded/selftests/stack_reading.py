"""Does user code read the call stack while it answers? Then it may answer each caller otherwise."""

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# Python reports these to its audit hooks (PEP 578).
_WHOLE = ("sys._getframe", "sys._current_frames", "sys.setprofile", "sys.settrace")
_OF_AN_EXCEPTION = ("object.__getattr__", "tb_frame")
# Of the standard library. Others, such as logging, look for the number of a line.
_READERS = ("inspect.py", "traceback.py")
_STDLIB = sysconfig.get_path("stdlib") + "/"
_LIBRARIES = tuple(sysconfig.get_path(name) + "/" for name in ("purelib", "platlib"))
_HOME = Path(__file__).resolve().parents[2]
_OURS = (f"{_HOME}/robustbench_coded/", f"{_HOME}/attacks/")

_watchers: list[set[str]] = []
_hooked = False


@contextmanager
def stack_readings() -> Iterator[set[str]]:
    """Where code of neither this project nor a library reads the stack meanwhile: ``file.py, line 3``."""
    global _hooked
    if not _hooked:  # a hook cannot be taken away again
        sys.addaudithook(_audited)
        _hooked = True
    found: set[str] = set()
    _watchers.append(found)
    try:
        yield found
    finally:
        _watchers.remove(found)


def _audited(event: str, arguments: tuple[object, ...]) -> None:
    if not _watchers:
        return
    of_an_exception = event == _OF_AN_EXCEPTION[0] and arguments[1:2] == _OF_AN_EXCEPTION[1:]
    if event not in _WHOLE and not of_an_exception:
        return
    place = _reader(_caller(), direct=of_an_exception)
    if place is not None:
        for found in _watchers:
            found.add(place)


def _caller() -> FrameType | None:
    """The frame that caused the event; asking for it causes none, for hooks are not called inside a hook."""
    watching, _watchers[:] = _watchers[:], []
    try:
        return sys._getframe(2)
    finally:
        _watchers[:] = watching


def _reader(frame: FrameType | None, *, direct: bool) -> str | None:
    """The place of user code that asks, itself or through `_READERS`; None for other code."""
    while frame is not None and frame.f_code.co_filename.startswith(_STDLIB):
        name = frame.f_code.co_filename
        if name.startswith(_LIBRARIES) or direct or name.removeprefix(_STDLIB) not in _READERS:
            return None
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith((*_OURS, *_LIBRARIES, "<")):
        return None
    return f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
