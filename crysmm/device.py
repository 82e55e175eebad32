"""The device of a run, its precision, its memory, and deterministic kernels."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Literal

import torch
from torch.utils import deterministic

from crysmm import __version__
from crysmm.config.run import DEVICES, Engine, RunConfig
from crysmm.errors import InputError

CPU_FLAGS = Path("/proc/cpuinfo")
PEAK_OF_PROCESS = Path("/proc/self/clear_refs")  # a 5 resets it, on Linux
BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel's tiles, Intel's and AMD's vectors, Arm's


def resolve_device(device: str) -> torch.device:
    """Return the device of a setting: for ``auto`` the first GPU if there is one, else the CPU.

    Raises:
        InputError: The setting is invalid, or names a GPU that torch does not see.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(DEVICES, device):
        raise InputError(f"--device: expected auto, cpu, cuda or cuda:N, got {device!r}")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device: {device} is not available: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs; "
            "use --device cpu or auto, and `crysmm doctor` to see what is installed"
        )
    return chosen


def resolve_precision(precision: str, device: torch.device, engine: Engine = "blocked") -> Literal["32", "bf16"]:
    """Return the precision of a setting: for ``auto`` bf16 if the processor multiplies it in hardware, else 32 bits."""
    if precision == "32" or engine == "dgl":  # the kernels of DGL compute in 32 bits only
        return "32"
    if precision == "bf16":
        return "bf16"
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # oneDNN uses the instructions; only Linux lists them in a file
        has_library = torch.backends.mkldnn.is_available() and CPU_FLAGS.is_file()
        fast = has_library and not BF16_FLAGS.isdisjoint(CPU_FLAGS.read_text().split())
    return "bf16" if fast else "32"


@dataclass(frozen=True)
class Machine:
    """The device and precision of a training.

    Args:
        device: Device to train on.
        precision: Precision of matrix products, ``32`` or ``bf16``.
    """

    device: torch.device
    precision: Literal["32", "bf16"]

    @classmethod
    def of(cls, config: RunConfig) -> Machine:
        """Resolve the device and precision in the settings.

        Raises:
            InputError: The requested device is not available.
        """
        device = resolve_device(config.device)
        return cls(device, resolve_precision(config.precision, device, config.engine))

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that numbers depend on, by name."""
        own = {"python": platform.python_version(), "crysmm": __version__}
        return own | {name: version(name) for name in ("torch", "numpy", "vesin")}

    def forget_peak_memory(self) -> None:
        """Let the peak memory be that from now on: on a GPU, and on Linux, where it is the whole process's."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with suppress(OSError):
                PEAK_OF_PROCESS.write_text("5")

    def peak_memory(self) -> float:
        """Return the peak memory of this process so far in GiB, on the GPU if it trains there."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        unit = 1 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
        return getrusage(RUSAGE_SELF).ru_maxrss * unit / 2**30


def hardware_of(device: str) -> str:
    """Describe a device of this machine."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Use deterministic kernels on a GPU in the block; operations without such a kernel warn."""
    if device.type != "cuda":  # kernels for CPUs are deterministic
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time, and nothing reads it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
