"""The device and the arithmetic a run uses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from crysmm import device
from crysmm.device import PEAK_OF_PROCESS, Machine, resolve_device, resolve_precision
from crysmm.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx2 avx512_bf16 amx_tile", "bf16"),
        ("flags : fpu amx_bf16 amx_tile", "bf16"),
        ("Features : fp asimd i8mm bf16", "bf16"),
        ("flags : fpu sse avx2 avx512f", "32"),
    ],
)
def test_auto_follows_the_processor(flags: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(device, "CPU_FLAGS", tmp_path / "cpuinfo")
    assert resolve_precision("auto", CPU) == expected


def test_auto_without_a_list_of_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "CPU_FLAGS", tmp_path / "nothing")
    assert resolve_precision("auto", CPU) == "32"


@pytest.mark.parametrize("asked", ["32", "bf16"])
def test_what_is_asked_for_is_used(asked: str) -> None:
    assert resolve_precision(asked, CPU) == asked


def test_dgl_computes_in_32_bits() -> None:
    assert resolve_precision("auto", CPU, engine="dgl") == "32"


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve_device("auto") == torch.device(expected)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(InputError, match="cuda:1 is not available"):
        resolve_device("cuda:1")


@pytest.mark.skipif(not PEAK_OF_PROCESS.exists(), reason="the system cannot forget it")
def test_the_peak_of_a_run_is_not_that_of_those_before() -> None:
    machine = Machine(torch.device("cpu"), "32")
    np.ones(1 << 27)  # 1 GiB, which is freed at once
    before = machine.peak_memory()
    machine.forget_peak_memory()
    assert machine.peak_memory() < before - 0.9
