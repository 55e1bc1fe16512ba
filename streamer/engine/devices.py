"""What `auto` means on this machine: device, number format, size of a device batch.

Enters: words of the settings file. Leaves: torch devices and dtypes. Must not know: models, label sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from streamer.errors import UsageError

CPU_INFO = Path("/proc/cpuinfo")
# instructions that make bfloat16 faster than float32; without them it is emulated and slower
CPU_BFLOAT16_FLAGS = frozenset(("avx512_bf16", "amx_bf16"))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

GPU_MAX_TOKENS = 16_384
CPU_MAX_TOKENS = 2_048  # what a core still holds in its caches; the loop can act between two batches
# a forward pass starts some hundred kernels: on a GPU that takes as long as a full batch's arithmetic, on a CPU
# about as long as a few dozen tokens
CPU_BATCH_COST_TOKENS = 64


def choose_device(name: str) -> torch.device:
    """`auto` (a CUDA device, else the CPU), or a device by name. Raises UsageError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device '{name}': unknown; use auto, cpu, cuda, cuda:1 (and so on) or mps") from None
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if device.type not in there:
        raise UsageError(f"device '{name}': not supported; use auto, cpu, cuda, cuda:1 (and so on) or mps")
    if (device.index or 0) >= there[device.type]:
        raise UsageError(f"device '{name}': this machine has {there[device.type]} of that kind; use auto or cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware computes in it, else float32. Raises UsageError for other names."""
    if name == "auto":
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise UsageError(f"dtype '{name}': unknown; use auto, {' or '.join(DTYPES)}")
    return DTYPES[name]


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and CPU_INFO.exists() and cpu_computes_bfloat16(CPU_INFO.read_text(encoding="utf-8"))


def cpu_computes_bfloat16(cpu_info: str) -> bool:
    """Whether the text of Linux's /proc/cpuinfo names bfloat16 instructions."""
    flags = next((line for line in cpu_info.splitlines() if line.startswith("flags")), "")
    return not CPU_BFLOAT16_FLAGS.isdisjoint(flags.split())


def choose_max_tokens(value: str | int, device: torch.device) -> int:
    """Tokens of a device batch, padding counted. Raises UsageError for anything but `auto` or a positive number."""
    if value == "auto":
        return CPU_MAX_TOKENS if device.type == "cpu" else GPU_MAX_TOKENS
    if not isinstance(value, int) or value < 1:
        raise UsageError(f"max_tokens '{value}': use auto or a whole number of at least 1")
    return value


def device_memory(device: str) -> dict[str, int]:
    """Bytes of a CUDA device: used by tensors, reserved for them by this process, total. These are counts of the host:
    the device is not asked, so any thread may ask at any time."""
    return {
        "used": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "total": torch.cuda.get_device_properties(device).total_memory,
    }


def choose_device_threads(device: torch.device) -> int:
    """How many batches are best under way: as many as torch has threads on a CPU, two on a CUDA device.

    There one is computed while the next is handed over and the last one's answer is read (see `staging.py`).
    """
    if device.type == "cuda":
        return 2
    return torch.get_num_threads() if device.type == "cpu" else 1


def thread_setter(device: torch.device) -> Callable[[int], None]:
    """What tells the calling thread how many threads a kernel on the CPU may use; a GPU's kernels need none.

    torch keeps the last number for threads that are yet to start, too; those that run keep their own.
    """
    return torch.set_num_threads if device.type == "cpu" else lambda threads: None


@contextmanager
def on_one_thread(device: torch.device) -> Iterator[None]:
    """Kernels called here, on the calling thread, use one thread on a CPU: for a thread that loads a model which others
    will run.

    OpenMP keeps the helpers that a thread ever had. Once all threads' helpers are more than there are cores, each of
    them sleeps at every barrier, and a lone record takes half as long again on two cores.
    """
    threads = torch.get_num_threads()
    set_threads = thread_setter(device)
    set_threads(1)
    try:
        yield
    finally:
        set_threads(threads)


def batch_cost_tokens(device: torch.device) -> int:
    """Tokens whose work takes as long as starting one more batch (see `packing.pack`)."""
    return CPU_BATCH_COST_TOKENS if device.type == "cpu" else GPU_MAX_TOKENS
