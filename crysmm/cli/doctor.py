"""``crysmm doctor``: report the installation and what a run would use, with a command that fixes each problem."""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from crysmm import __version__
from crysmm.cli.options import add_cache_dir

MODULES = {
    "jarvis-tools": "jarvis.core.atoms",
    "lightning-fabric": "lightning_fabric",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
"""Modules to import of packages whose module has another name, or imports the rest only in a submodule."""
DGL_LAST_PYTHON = (3, 11)
SMALLEST_FREE = 2 * 1024**3  # bytes
IMPORT_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        name: Package, device or folder that was examined.
        state: Description of its state.
        remedy: Command that fixes it; empty if nothing is wrong.
    """

    name: str
    state: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option for the folder of stored graphs."""
    add_cache_dir(parser, "Folder for stored graphs, as for training.")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; return 0 if nothing is wrong, else 1."""
    remedies = []
    for finding in examine(arguments.cache_dir):
        print(f"{'!' if finding.remedy else ' '} {finding.name:26}{finding.state}", flush=True)
        remedies += [finding.remedy] if finding.remedy else []
    if not remedies:
        print("All is well.")
        return 0
    print("To fix it:", *(f"  {remedy}" for remedy in remedies), sep="\n")
    return 1


def examine(cache_dir: Path | None = None) -> Iterator[Finding]:
    """Examine the installation, then the machine."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("platform", platform.platform())
    source = Path(__file__).parents[1]
    try:
        requirements = required()
    except PackageNotFoundError:
        yield Finding("crysmm", f"{__version__} ({source}), not installed", f"pip install {source.parent}")
        return
    yield Finding("crysmm", f"{__version__} ({source})")
    dgl = requirements.pop("dgl", "dgl")
    # All packages are imported in one process first, as torch alone takes seconds; one by one only after a failure.
    modules = {name: MODULES.get(name, name.replace("-", "_")) for name in requirements}
    sound = import_problem(*(module for name, module in modules.items() if installed_version(name) is not None)) is None
    for name, module in modules.items():
        yield examine_package(name, None if sound else module)
    yield examine_dgl(dgl)
    if sound:
        yield from examine_teachers()
    if sound and installed_version("torch") is not None:
        yield from examine_machine()
        yield examine_cache(cache_dir)


def required() -> dict[str, str]:
    """Return the requirements of crysmm by package, from its installed metadata, without those of extras.

    Raises:
        PackageNotFoundError: crysmm runs from a folder of sources and is not installed.
    """
    found = {}
    for line in requires("crysmm") or ():
        requirement, _, marker = line.partition(";")
        if "extra" not in marker:
            name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
            found[name] = requirement.strip()
    return found


def examine_package(package: str, module: str | None) -> Finding:
    """Examine a package.

    Args:
        package: Name of the package.
        module: Module to import; None if it is known to be importable.
    """
    installed = installed_version(package)
    if installed is None:
        return Finding(package, "not installed", f"pip install {package}")
    problem = None if module is None else import_problem(module)
    if problem is None:
        return Finding(package, installed)
    mismatch = "numpy" in problem.lower() and package != "numpy"
    remedy = f"pip install --upgrade {package} numpy" if mismatch else f"pip install --force-reinstall {package}"
    return Finding(package, f"{installed}, but it cannot be imported: {problem}", remedy)


def examine_dgl(requirement: str) -> Finding:
    """Examine DGL; where it has no wheels, its absence is not a fault, as only DGL graphs need it.

    Args:
        requirement: DGL with the versions that crysmm works with.
    """
    command = f'pip install "{requirement}" packaging'  # which dgl imports without requiring it
    installed = installed_version("dgl")
    too_new = sys.version_info[:2] > DGL_LAST_PYTHON
    if installed is None and too_new:
        python = ".".join(map(str, DGL_LAST_PYTHON))
        return Finding("dgl", f"not installed: its wheels end at Python {python}; only DGL graphs need it")
    if installed is None:
        return Finding("dgl", "not installed: DGL graphs and the engine dgl need it", command)
    problem = import_problem("dgl")
    if problem is None:
        return Finding("dgl", installed)
    remedy = f"pip uninstall -y dgl{'' if too_new else f' && {command}'}"
    return Finding("dgl", f"{installed}, but it cannot be imported: {problem}", remedy)


def examine_machine() -> Iterator[Finding]:
    """Examine threads and devices, and the engine and precision that a run would use by default."""
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


def examine_teachers() -> Iterator[Finding]:
    """List the universal potentials by package, which are not imported; none of them is required."""
    from crysmm.teachers.names import PACKAGES, registered

    for package, names in PACKAGES.items():
        installed = installed_version(package)
        state = "not installed: only needed for" if installed is None else f"{installed}, for"
        yield Finding(package, f"{state} the teachers {', '.join(names)}")
    for name, point in registered().items():
        package = "" if point.dist is None else f" of {point.dist.name} {point.dist.version}"
        yield Finding(name, f"teacher{package}")


def examine_cache(cache_dir: Path | None) -> Finding:
    """Examine whether stored graphs can be written, and the free space for them."""
    from crysmm.files import cache_folder, why_not_writable

    folder = cache_folder(cache_dir).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    state = f"{folder}, {free / 1024**3:.0f} GiB free"
    why = why_not_writable(folder)
    if why is not None:
        return Finding(
            "cache", f"{state}; it cannot be written to: {why}", "give another folder with --cache_dir FOLDER"
        )
    if free < SMALLEST_FREE:
        return Finding("cache", f"{state}; that is little", "give another folder with --cache_dir FOLDER")
    return Finding("cache", state)


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def import_problem(*modules: str) -> str | None:
    """Import modules in a Python process of their own, so that a crash there is only reported.

    With torch, an array is handed to numpy, too: a torch that was built for another numpy fails only there.

    Returns:
        The reason why they cannot be imported, or None.
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
