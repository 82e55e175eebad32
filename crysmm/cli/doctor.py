"""``crysmm doctor``: report the installation and what a run would use, with a command that fixes each problem."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from crysmm.version import __version__

REQUIRED = {  # what is installed: what is imported
    "torch": "torch",
    "numpy": "numpy",
    "jarvis-tools": "jarvis.core.atoms",
    "lightning": "lightning.pytorch",
    "datasets": "datasets",
    "vesin": "vesin",
    "ase": "ase",
    "gemmi": "gemmi",
    "pydantic": "pydantic",
    "pydantic-settings": "pydantic_settings",
    "joblib": "joblib",
    "packaging": "packaging",
    "pyarrow": "pyarrow",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "transformers": "transformers",
    "safetensors": "safetensors",
    "torchmetrics": "torchmetrics",
    "matplotlib": "matplotlib",
    "plotly": "plotly",
    "jinja2": "jinja2",
    "moyopy": "moyopy",
    "spglib": "spglib",
    "tqdm": "tqdm",
}
DGL_COMMAND = 'pip install "dgl>=1.1.3,<2" packaging'
DGL_LAST_PYTHON = (3, 11)
SMALLEST_FREE = 2 * 1024**3  # bytes
IMPORT_SECONDS = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where stored graphs would go."""
    parser.add_argument("--cache_dir", type=Path, metavar="PATH", help="Folder for stored graphs, as for training.")


def run(arguments: argparse.Namespace) -> int:
    """Print what is found; 0 if all is well, else 1."""
    remedies = []
    for finding in examine(arguments.cache_dir):
        print(f"{'!' if finding.remedy else ' '} {finding.name:26}{finding.state}", flush=True)
        remedies += [finding.remedy] if finding.remedy else []
    if not remedies:
        print("All is well.")
        return 0
    print("To mend it:", *(f"  {remedy}" for remedy in remedies), sep="\n")
    return 1


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        name: what was looked at.
        state: what was found.
        remedy: the command that mends it; empty where nothing is wrong.
    """

    name: str
    state: str
    remedy: str = ""


def examine(cache_dir: Path | None = None) -> Iterator[Finding]:
    """Look at the installation and the machine, one thing after the other."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("platform", platform.platform())
    yield Finding("crysmm", f"{__version__} ({Path(__file__).parent})")
    # One try for all where all is well: a package alone takes seconds to import.
    present = {package: module for package, module in REQUIRED.items() if installed_version(package) is not None}
    sound = import_problem(*present.values()) is None
    for package, module in REQUIRED.items():
        yield examine_package(package, None if sound else module)
    yield examine_dgl()
    if sound and "torch" in present:
        yield from examine_machine()
        yield examine_cache(cache_dir)


def examine_package(package: str, module: str | None) -> Finding:
    """Whether a package is there and, unless its module is known to be sound (None), whether it can be imported."""
    installed = installed_version(package)
    if installed is None:
        return Finding(package, "not installed", f"pip install {package}")
    problem = None if module is None else import_problem(module)
    if problem is None:
        return Finding(package, installed)
    mismatch = "numpy" in problem.lower() and package != "numpy"
    remedy = f"pip install --upgrade {package} numpy" if mismatch else f"pip install --force-reinstall {package}"
    return Finding(package, f"{installed}, but it cannot be imported: {problem}", remedy)


def examine_dgl() -> Finding:
    """Whether DGL is there and works; where no wheel exists its absence is no fault, as only DGL graphs need it."""
    installed = installed_version("dgl")
    too_new = sys.version_info[:2] > DGL_LAST_PYTHON
    if installed is None and too_new:
        python = ".".join(map(str, DGL_LAST_PYTHON))
        return Finding("dgl", f"not installed: its wheels end at Python {python}; only DGL graphs need it")
    if installed is None:
        return Finding("dgl", "not installed: DGL graphs and the engine dgl need it", DGL_COMMAND)
    problem = import_problem("dgl")
    if problem is None:
        return Finding("dgl", installed)
    remedy = f"pip uninstall -y dgl{'' if too_new else f' && {DGL_COMMAND}'}"
    return Finding("dgl", f"{installed}, but it cannot be imported: {problem}", remedy)


def examine_machine() -> Iterator[Finding]:
    """Threads, devices, and the engine and precision a run would use by default."""
    import torch

    from crysmm.config import TrainingConfig
    from crysmm.device import resolve_device, resolve_precision

    defaults = TrainingConfig()
    yield Finding("threads", f"{torch.get_num_threads()} (of {os.cpu_count()} cores)")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    unused = not gpus and shutil.which("nvidia-smi") is not None
    yield Finding(
        "devices",
        ", ".join(["cpu", *(f"cuda:{index} {name}" for index, name in enumerate(gpus))])
        + (f"; there is an NVIDIA driver, but torch {torch.__version__} sees no GPU" if unused else ""),
        "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126" if unused else "",
    )
    device = resolve_device(defaults.device)
    yield Finding("device", f"{device} would be used")
    yield Finding("engine", f"{defaults.engine} would be used")
    precision = resolve_precision(defaults.precision, device, defaults.engine)
    yield Finding("precision", f"{precision} would be used")


def examine_cache(cache_dir: Path | None) -> Finding:
    """Whether stored graphs can be written, and how much room there is."""
    from crysmm.data.store import cache_folder

    folder = cache_folder(cache_dir).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    state = f"{folder}, {free / 1024**3:.0f} GiB free"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding("cache", f"{state}; it cannot be written to", "give another folder with --cache_dir FOLDER")
    if free < SMALLEST_FREE:
        return Finding("cache", f"{state}; that is little", "give another folder with --cache_dir FOLDER")
    return Finding("cache", state)


def installed_version(package: str) -> str | None:
    """The version pip knows of, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def import_problem(*modules: str) -> str | None:
    """Why modules cannot be imported, tried in a Python of its own so that a crash there is only reported.

    With torch, an array is handed to numpy too: a torch made for another numpy fails only there.
    """
    code = "".join(f"import {module}\n" for module in modules)
    if "torch" in modules:
        code += "torch.zeros(1).numpy()\n"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "DGLBACKEND": "pytorch"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {IMPORT_SECONDS} s"
    if tried.returncode == 0:
        return None
    lines = [line for line in tried.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines and tried.returncode > 0 else f"it crashed with code {tried.returncode}"
