"""What a run computes on: the device, the arithmetic, memory and repeatability."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch.utils import deterministic

from crysmm.config.run import DEVICES, RunConfig
from crysmm.errors import InputError
from crysmm.version import __version__

CPU_FLAGS = Path("/proc/cpuinfo")
BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel's tiles, Intel's and AMD's vectors, Arm's


def resolve_device(device: str) -> torch.device:
    """The device a setting means: ``auto`` is the first GPU where there is one, else the CPU.

    Raises:
        InputError: It is no such setting, or a GPU that torch does not see.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(DEVICES, device):
        raise InputError(f"--device: expected auto, cpu, cuda or cuda:N, got {device!r}")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device: {device} is not there: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs; "
            "use --device cpu or auto, and `crysmm doctor` to see what is installed"
        )
    return chosen


def resolve_precision(
    precision: str, device: torch.device, engine: Literal["blocked", "dgl"] = "blocked"
) -> Literal["32", "bf16"]:
    """The arithmetic a setting means: ``auto`` is bf16 where the processor multiplies it, else 32 bits.

    DGL's kernels compute in 32 bits only.
    """
    if precision == "32" or engine == "dgl":
        return "32"
    if precision == "bf16":
        return "bf16"
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else multiplies_bf16()
    return "bf16" if fast else "32"


def multiplies_bf16() -> bool:
    """Whether this CPU has bf16 matrix or vector products of its own, and torch the library that uses them.

    Read from Linux' list of processor features; elsewhere the answer is no.
    """
    if not torch.backends.mkldnn.is_available() or not CPU_FLAGS.is_file():
        return False
    return not BF16_FLAGS.isdisjoint(CPU_FLAGS.read_text().split())


@dataclass(frozen=True)
class Machine:
    """A device, and the arithmetic of training on it."""

    device: torch.device
    precision: Literal["32", "bf16"]

    @classmethod
    def of(cls, config: RunConfig) -> Machine:
        """What the settings mean here.

        Raises:
            InputError: the device asked for is not there.
        """
        device = resolve_device(config.device)
        return cls(device, resolve_precision(config.precision, device, config.engine))

    def versions(self) -> dict[str, str]:
        """Of what decides numbers, by name."""
        own = {"python": platform.python_version(), "crysmm": __version__}
        return own | {name: version(name) for name in ("torch", "lightning", "numpy", "vesin")}

    def peak_memory(self) -> float | None:
        """Most memory this process has taken so far, on the GPU or in all, in GiB; None where it is not known."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        if sys.platform == "win32":
            return None
        from resource import RUSAGE_SELF, getrusage

        unit = 1 if sys.platform == "darwin" else 2**10
        return getrusage(RUSAGE_SELF).ru_maxrss * unit / 2**30


def hardware_of(device: str) -> str:
    """A device of this machine, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """On a GPU, choose kernels that give the same numbers every time, where there are any; others warn."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
