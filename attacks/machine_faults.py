"""Exceptions that say something about the machine, and nothing about a defence."""

import torch

# torch's CPU allocator and CUDA's libraries have no exception of their own.
_NO_MEMORY = ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the device or on the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _NO_MEMORY)


def makes_process_unusable(error: BaseException) -> bool:
    """After a CUDA fault, every later call in the process fails."""
    text = str(error)
    return isinstance(error, RuntimeError) and "CUDA error" in text and not is_out_of_memory(error)


def is_machine_fault(error: BaseException) -> bool:
    """Whether an exception is about the machine alone."""
    return is_out_of_memory(error) or makes_process_unusable(error)
