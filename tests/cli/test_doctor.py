"""``crysmm doctor`` on this installation, and on broken ones."""

import configparser
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import pytest

import crysmm
from crysmm.cli import doctor
from crysmm.cli.doctor import Finding
from crysmm.cli.main import main
from crysmm.teachers.names import PACKAGES

DGL = "dgl<2,>=1.1.3"
DGL_REMEDY = f'pip install "{DGL}" packaging'


def test_import_problem_of_what_is_there() -> None:
    assert doctor.import_problem("json", "csv") is None


def test_import_problem_of_what_is_not() -> None:
    assert doctor.import_problem("no_such_module") == "ModuleNotFoundError: No module named 'no_such_module'"


@pytest.fixture
def broken_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "broken.py"


def test_a_crash_at_import_is_only_reported(broken_module: Path) -> None:
    broken_module.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert doctor.import_problem("broken") == "it crashed with code -11"


def test_dgl_s_backend_is_set_so_that_it_writes_nothing(broken_module: Path) -> None:
    broken_module.write_text("import os\nassert os.environ['DGLBACKEND'] == 'pytorch'\n")
    assert doctor.import_problem("broken") is None


@pytest.mark.parametrize(
    ("python", "installed", "problem", "remedy"),
    [
        ((3, 11), None, None, DGL_REMEDY),
        ((3, 12), None, None, ""),
        ((3, 11), "1.1.3", None, ""),
        ((3, 11), "0.1.3", "ImportError: cannot import name 'Mapping'", f"pip uninstall -y dgl && {DGL_REMEDY}"),
        ((3, 12), "2.1.0", "ModuleNotFoundError: No module named 'torchdata.datapipes'", "pip uninstall -y dgl"),
    ],
)
def test_dgl(
    python: tuple, installed: str | None, problem: str | None, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", python)
    monkeypatch.setattr(doctor, "installed_version", lambda package: installed)
    monkeypatch.setattr(doctor, "import_problem", lambda *modules: problem)
    finding = doctor.examine_dgl(DGL)
    assert finding.remedy == remedy
    assert (installed or "not installed") in finding.state


def test_a_missing_package() -> None:
    finding = doctor.examine_package("no-such-package", "no_such_module")
    assert finding == Finding("no-such-package", "not installed", "pip install no-such-package")


def test_torch_and_numpy_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "import_problem", lambda *modules: "RuntimeError: Numpy is not available")
    finding = doctor.examine_package("torch", "torch")
    assert finding.remedy == "pip install --upgrade torch numpy"
    assert "Numpy is not available" in finding.state


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "--cache_dir" in doctor.examine_cache(blocked).remedy
    assert doctor.examine_cache(tmp_path / "new" / "folder").remedy == ""
    assert not (tmp_path / "new").exists()


def test_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SMALLEST_FREE", shutil.disk_usage(tmp_path).total + 1)
    assert "that is little" in doctor.examine_cache(tmp_path).state


def test_requirements_are_read_from_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2.4", 'dgl<2,>=1.1.3; python_version < "3.12"', "packaging", 'gradio>=6; extra == "app"']
    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    assert doctor.required() == {"torch": "torch>=2.4", "dgl": DGL, "packaging": "packaging"}


def test_every_requirement_has_the_module_that_is_imported() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(crysmm.__file__).parents[1] / "setup.cfg")
    lines = [line for line in setup["options"]["install_requires"].splitlines() if line and not line.startswith("#")]
    names = {re.match(r"[\w-]+", line).group() for line in lines} - {"dgl"}  # type: ignore[union-attr]
    assert len(names) > 20
    for name in names:
        assert find_spec(doctor.MODULES.get(name, name.replace("-", "_"))) is not None, name


def test_sources_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", missing)
    *_, finding = doctor.examine()
    assert finding.remedy == f"pip install {Path(crysmm.__file__).parents[1]}"


def import_here(*modules: str) -> None:
    """Import in this process, which has most of them already; :func:`import_problem` has its own tests."""
    for module in modules:
        import_module(module)


def test_the_report_of_this_machine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "import_problem", import_here)
    monkeypatch.setenv("DGLBACKEND", "pytorch")
    code = main(["doctor", "--cache_dir", str(tmp_path)])
    shown = capsys.readouterr().out
    for name in ("python", "torch", "dgl", "threads", "devices", "engine", "precision", "cache"):
        assert re.search(rf"^[! ] {name} ", shown, re.MULTILINE), name
    assert "blocked would be used" in shown
    assert str(tmp_path) in shown
    assert code == (1 if "\n! " in shown else 0)


def test_findings_become_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = [Finding("torch", "2.13"), Finding("dgl", "not installed", DGL_REMEDY)]
    monkeypatch.setattr("crysmm.cli.doctor.examine", lambda cache_dir: iter(found))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["To fix it:", f"  {DGL_REMEDY}"]


def test_teachers_are_listed(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    install({"toy": "toy_teacher:ToyTeacher"}, {"toy_teacher": "raise RuntimeError('imported')"})
    monkeypatch.setattr(doctor, "installed_version", {"chgnet": "0.4.2"}.get)
    assert list(doctor.examine_teachers()) == [
        Finding("chgnet", "0.4.2, for the teachers chgnet, chgnet-r2scan"),
        Finding("sevenn", f"not installed: only needed for the teachers {', '.join(PACKAGES['sevenn'])}"),
        Finding("toy", "teacher of toys 1.0"),
    ]
