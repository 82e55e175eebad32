"""On which device, and in which arithmetic, a run computes."""

import re
from pathlib import Path
from typing import Literal

import torch

from crysmm.config.run import DEVICES
from crysmm.errors import InputError

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
