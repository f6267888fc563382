"""Defences in processes of their own, ``--defence "cmd: COMMAND"``: an old torch, TensorFlow, JAX, Docker.

The process uses its standard input and output. A message is an npz archive of numpy, without pickles, that
follows its length in 8 bytes, little-endian. The process first declares what it is. Then it answers each
message with one:

    declares    name, randomised, batch_dependent, gradients; optional: k, base, abstain
    is asked    x float32 [k, C, H, W] in [0, 1], seed int64 from 0 to 2**32 - 1; for gradients v [k, classes]
    answers     logits [k, classes]; to v: vjp like x, the gradient of sum(v * logits); or error, a text

docs/your-defence.md says more. A process that ends, hangs or sends anything else is a failure of the defence.
It is not started again.
"""

import io
import os
import select
import shlex
import signal
import struct
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_coded.code_identity import code_of_command
from robustbench_coded.defences import options, per_batch, plugin
from robustbench_coded.errors import InputError

START_SECONDS = 600.0  # for what it declares: an image may be fetched, a framework imported
ANSWER_SECONDS = 600.0
GRACE_SECONDS = 1.0  # for its end, before it is made to
LARGEST = 2**33  # bytes of a message: more is no length, but text that was printed
_FLAGS = ("randomised", "batch_dependent", "gradients", "base")

# One process for each command that is in use in this process.
_running: "weakref.WeakValueDictionary[str, Process]" = weakref.WeakValueDictionary()

Arrays = dict[str, np.ndarray]


class ProcessFailed(RuntimeError):
    """The process ended, hangs, or answers something that is no answer."""


def load_piped(target: str, model: nn.Module | None) -> per_batch.PerBatch:
    """Starts the process of ``cmd: COMMAND``, or takes the one that runs, as a defence.

    Args:
        target: the command, split as a shell would; no shell runs it.
        model: the checkpoint that it is put around: its base model, if it declares ``base``.
    Raises:
        InputError: it cannot be started, or does not say what it is.
    """
    command = target.removeprefix(options.PIPED).strip()
    prefix = f"--defence {options.PIPED} {command}:"
    try:
        piped = Piped(_process(command), model)
    except (OSError, ValueError, ProcessFailed) as error:
        raise InputError(f"{prefix} {error}") from error
    defence = plugin.as_defence(piped, model, name=piped.name, origin=f"{prefix} it declares")
    assert isinstance(defence, per_batch.PerBatch)
    return defence


class Piped:
    """A process as a defence; a draw is the seed that is sent with a question."""

    def __init__(self, process: "Process", model: nn.Module | None):
        self.process = process
        declared = process.declared
        self.name: str = declared["name"]
        self.randomised: bool = declared["randomised"]
        self.batch_dependent: bool = declared["batch_dependent"]
        self.gradients: bool = declared["gradients"]
        self.abstain: int | None = declared.get("abstain")
        self.base = model if declared["base"] else None
        self._most: int = declared.get("k") or 0  # inputs that it answers at once; 0 for any number

    @property
    def out_of_reach(self) -> list[str]:
        """The limits of an evaluation across a pipe, a clause."""
        if self.gradients:
            return ["answers from a process of its own: operators that hide its gradient can't be smoothed"]
        return ["gives no gradients from its process, and those of queries and transfer find less"]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Piped":
        return self  # a process has no copy

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, nn.Module | None]]:
        return _restart, (self.process.command, self.base)

    def sample(self, generator: torch.Generator, k: int) -> int | None:
        """A seed from 0 to 2**32 - 1; None if it is not randomised."""
        return int(torch.randint(2**32, (), generator=generator)) if self.randomised else None

    def logits(self, x: Tensor, draw: int | None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes], with the process's own gradient, if it has one.

        Raises:
            ProcessFailed: there is no answer.
        """
        with torch._C.DisableTorchFunction():  # nothing here is an operator of the defence's
            if self.gradients and x.requires_grad and torch.is_grad_enabled():
                answer: Tensor = _AskedForGradient.apply(x, self, draw)
                return answer
            return self.ask("logits", x.detach(), draw)

    def ask(self, what: str, x: Tensor, draw: int | None, v: Tensor | None = None) -> Tensor:
        """``logits`` [k, classes] of x [k, C, H, W], or ``vjp`` like x given v [k, classes]."""
        size = self._most or len(x)
        if len(x) > size and (self.randomised or self.batch_dependent):
            raise ProcessFailed(f"it answers at most {size} inputs at once; give --batch-size {size}")
        vs = (v if v is not None else x).split(size)
        parts = [
            self._part(what, part, draw or 0, None if v is None else w) for part, w in zip(x.split(size), vs)
        ]
        return torch.cat(parts).to(x.device)

    def _part(self, what: str, x: Tensor, seed: int, v: Tensor | None) -> Tensor:
        question = {"x": _array(x), "seed": np.array(seed, np.int64)}
        if v is not None:
            question["v"] = _array(v)
        answer = self.process.ask(question)
        if "error" in answer:
            raise ProcessFailed(str(answer["error"]))
        if what not in answer or answer[what].dtype.kind not in "fiub":
            raise ProcessFailed(f"it answers with {', '.join(map(_shape, answer.items()))}, not with {what}")
        array = answer[what]
        fits = array.shape == tuple(x.shape) if v is not None else array.ndim == 2 and len(array) == len(x)
        if not fits:
            wanted = tuple(x.shape) if v is not None else f"({len(x)}, classes)"
            raise ProcessFailed(f"it answers with {what} of shape {array.shape}, not {wanted}")
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


class _AskedForGradient(torch.autograd.Function):
    """The logits, whose gradient is asked of the process."""

    runs_elsewhere = True  # relaxed attacks cannot run its forward again on operators of their own

    @staticmethod
    def forward(ctx: Any, x: Tensor, piped: Piped, draw: int | None) -> Tensor:
        ctx.save_for_backward(x)
        ctx.piped, ctx.draw = piped, draw
        return piped.ask("logits", x, draw)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.piped.ask("vjp", x, ctx.draw, v).to(x), None, None


class Process:
    """A process that answers questions, one after the other.

    Attributes:
        command: as it was started; code: its files at that time.
        declared: what it says of itself.
        failure: why it answers no more; empty as long as it does.

    Raises:
        OSError, ValueError: there is no such command.
        ProcessFailed: it does not say what it is.
    """

    def __init__(self, command: str):
        if not (words := shlex.split(command)):
            raise ValueError("it names no program")
        self.command, self.code, self.failure = command, code_of_command(command), ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for this process, which ends that one
        )
        weakref.finalize(self, _end, self._process)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        self.declared = _declared(self._whole(lambda: self._receive(time.monotonic() + START_SECONDS)))

    def ask(self, question: Arrays) -> Arrays:
        """The answer to a question.

        Raises:
            ProcessFailed: there is none, now or ever since.
        """
        if self.failure:
            raise ProcessFailed(self.failure)
        buffer = io.BytesIO()
        np.savez(buffer, **question)  # type: ignore[arg-type]
        message = struct.pack("<q", buffer.tell()) + buffer.getvalue()

        def exchange() -> Arrays:
            until = time.monotonic() + ANSWER_SECONDS
            self._send(memoryview(message), until)
            return self._receive(until)

        return self._whole(exchange)

    def _whole(self, exchange: Callable[[], Arrays]) -> Arrays:
        """An exchange that is interrupted or fails half-way is the last one."""
        try:
            return exchange()
        except BaseException as error:
            self.failure = str(error) or "it was interrupted"
            _end(self._process)
            raise

    def _send(self, message: memoryview, until: float) -> None:
        try:
            while message:
                self._wait(self._to, select.POLLOUT, until)
                message = message[os.write(self._to, message) :]
        except BrokenPipeError:
            raise ProcessFailed(self._ended()) from None

    def _receive(self, until: float) -> Arrays:
        start = self._read(8, until)
        (length,) = struct.unpack("<q", start)
        if not 0 <= length <= LARGEST:
            more = os.read(self._from, 60)
            raise ProcessFailed(
                f"it writes {(start + more)!r} to standard output, which is for messages; let it print to "
                "standard error"
            )
        message = self._read(length, until)
        try:
            with np.load(io.BytesIO(message), allow_pickle=False) as archive:
                return dict(archive)
        except Exception as error:  # numpy's and zipfile's, of bytes that may be anything
            raise ProcessFailed(f"its message is no npz archive ({type(error).__name__}: {error})") from error

    def _read(self, length: int, until: float) -> bytes:
        parts, rest = [], length
        while rest:
            self._wait(self._from, select.POLLIN, until)
            if not (part := os.read(self._from, min(rest, 2**20))):
                raise ProcessFailed(self._ended())
            parts.append(part)
            rest -= len(part)
        return b"".join(parts)

    def _wait(self, pipe: int, event: int, until: float) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            seconds = ANSWER_SECONDS if hasattr(self, "declared") else START_SECONDS
            raise ProcessFailed(f"its process hangs: no answer in {seconds:g} s{self._stderr()}")

    def _ended(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return f"its process closed its end of the pipe{self._stderr()}"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its process {how}{self._stderr()}"

    def _stderr(self) -> str:
        """The last line that it wrote to standard error, if any."""
        self._errors.seek(0)
        lines = self._errors.read()[-4096:].decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" ({last[:200]})" if last else ""


def _declared(message: Arrays) -> dict[str, Any]:
    """What the first message says, as plain data.

    Raises:
        ProcessFailed: it says too little, or something else.
    """
    declared = {"base": False} | {name: value.item() for name, value in message.items() if value.ndim == 0}
    kinds = {"name": str} | dict.fromkeys(_FLAGS, bool) | {"k": int, "abstain": int}  # 0 stands for no number
    wrong = [name for name, kind in kinds.items() if type(declared.get(name, 0)) is not kind]
    if wrong:
        raise ProcessFailed(
            f"its first message declares no {', '.join(wrong)}; it takes a text as name, booleans as "
            "randomised, batch_dependent and gradients, and may have base, a boolean, k and abstain, integers"
        )
    return declared


def _process(command: str) -> Process:
    process = _running.get(command)
    if process is None or process.failure or process.code != code_of_command(command):
        process = _running[command] = Process(command)
    return process


def _restart(command: str, base: nn.Module | None) -> Piped:
    return Piped(_process(command), base)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Closes its input, at which it should end by itself; else it is made to."""
    if process.poll() is not None:
        return
    if process.stdin is not None:
        process.stdin.close()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
            return


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().float().cpu().numpy())


def _shape(named: tuple[str, np.ndarray]) -> str:
    return f"{named[0]} {named[1].dtype} {list(named[1].shape)}"
