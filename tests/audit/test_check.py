import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from crysmm.audit.check import CheckReport, check_input
from crysmm.config import ALIGNNConfig, CGCNNConfig, GATGNNConfig, TrainingConfig
from crysmm.data.estimate import estimated_memory, format_size, memory_limit
from crysmm.errors import InputError

SAMPLE = Path(__file__).parents[2] / "examples" / "sample_data"


def check(path: Path, tmp_path: Path, **settings) -> CheckReport:
    return check_input(TrainingConfig(root_dir=path, cache_dir=tmp_path / "cache", jobs=1, progress=False, **settings))


def test_sample_data_is_clean(tmp_path: Path) -> None:
    report = check(SAMPLE, tmp_path)
    assert report.clean, report.text()
    assert report.n_readable == 200
    assert report.split == {"train": 160, "val": 20, "test": 20}
    values = np.genfromtxt(SAMPLE / "id_prop.csv", delimiter=",", skip_header=1)[:, 1]
    assert report.targets[0].mean == pytest.approx(values.mean())
    assert report.targets[0].mae_of_mean == pytest.approx(np.abs(values - values.mean()).mean())
    texts = [path.read_text().splitlines()[5].split() for path in SAMPLE.glob("*.vasp")]
    assert report.elements["Si"] == sum("Si" in symbols for symbols in texts)
    assert len(report.elements) == len({symbol for symbols in texts for symbol in symbols})
    assert report.costs.disk == sum(path.stat().st_size for path in (tmp_path / "cache" / "stores").glob("*/*"))
    assert "Nothing wrong was found." in report.text()
    assert not list(tmp_path.glob("*.csv"))


@pytest.fixture
def table(tmp_path: Path, crystals) -> Path:
    """Every crystal once, silicon also as a supercell with a wrong target, a row without target and a bad one."""
    silicon = crystals["Si"].to_jarvis()
    rows = [(name, crystal.to_jarvis(), number) for number, (name, crystal) in enumerate(crystals.items())]
    rows += [("Si again", silicon.make_supercell([2, 1, 1]), 5), ("gap?", silicon, "na"), ("Cu", silicon, 1)]
    lines = [json.dumps({"id": name, "atoms": atoms.to_dict(), "gap": gap}) for name, atoms, gap in rows]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    return tmp_path / "d.jsonl"


def test_everything_found_is_reported(table: Path, tmp_path: Path) -> None:
    report = check(table, tmp_path)
    assert not report.clean
    assert report.n_readable == 13
    assert report.duplicates == [["Si", "Si again"]]
    assert [(row.id, row.file) for row in report.skipped] == [("Cu", "d.jsonl:15")]
    assert "an earlier row" in report.skipped[0].reason
    assert report.gaps == ["1 of 15 rows have no gap"]
    assert report.graph["atoms"] == (pytest.approx(58 / 13), 12)
    text = report.text()
    for part in ("Si = Si again", "1 of 15 rows have no gap", "Cu in d.jsonl:15: the id", "1 row that cannot be used"):
        assert part in text
    assert json.loads(json.dumps(report.to_dict()))["findings"] == report.findings


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"NaCl": 1e30}, "gap is 1e+30 for NaCl, and 0 to 11 for all others; correct it, or leave it empty if"),
        ({"Si": -9999, "NaCl": -9999}, "gap is -9999 for Si, NaCl, and "),
        ({"NaCl": 100}, None),
    ],
)
def test_a_target_far_from_all_others_is_named(tmp_path: Path, crystals, values, found) -> None:
    gaps = {name: number for number, name in enumerate(crystals)} | values
    rows = [{"id": name, "atoms": crystals[name].to_jarvis().to_dict(), "gap": gap} for name, gap in gaps.items()]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = check(tmp_path / "d.jsonl", tmp_path)
    assert [finding for finding in report.findings if found and finding.startswith(found)] == report.findings


def test_rows_without_the_target_are_not_a_fault(tmp_path: Path, crystals) -> None:
    """In a table of many properties, most rows lack any one of them; the split is over those that have it."""
    missing = [{}, {"gap": None}, {"gap": ""}, {"gap": " NaN "}, {"gap": float("nan")}, {"gap": "na"}, {"gap": []}]
    structures = [crystal.to_jarvis().to_dict() for crystal in crystals.values()]
    named = zip(crystals, structures, strict=True)
    rows = [{"id": name, "atoms": atoms, "gap": number} for number, (name, atoms) in enumerate(named)]
    rows += [{"id": f"{n}", "atoms": structures[0], "volume": 1, **gap} for n, gap in enumerate(missing)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows[:5] + rows[-7:] + rows[5:-7])))
    report = check(tmp_path / "d.jsonl", tmp_path, target_key="gap")
    assert report.clean, report.text()
    assert (report.n_readable, report.skipped, report.gaps) == (12, [], ["7 of 19 rows have no gap"])
    assert "7 of 19 rows have no gap" in report.text()
    assert report.split == {"train": 9, "val": 1, "test": 1}  # of 12 rows


def test_fewer_crystals_than_splits_need(table: Path, tmp_path: Path) -> None:
    report = check(table, tmp_path, limit=5)
    assert (report.skipped, report.duplicates, report.split) == ([], [], {})
    assert len(report.findings) == 1
    assert "5" in report.split_problem


def test_classes_are_counted(table: Path, tmp_path: Path) -> None:
    assert check(table, tmp_path, classification_threshold=3.5).classes == {"0": 4, "1": 9}


def test_a_target_that_does_not_vary_is_found(tmp_path: Path, crystals) -> None:
    rows = [{"id": name, "gap": 1.5, "atoms": each.to_jarvis().to_dict()} for name, each in crystals.items()]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = ["gap is 1.5 for every crystal that has it, so that there is nothing to learn"]
    assert check(tmp_path / "d.jsonl", tmp_path).findings == found


def test_files_that_no_row_names_are_a_notice(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    names = sorted(path.name for path in SAMPLE.glob("*.vasp"))[:12]
    for name in names:
        (folder / name).write_text((SAMPLE / name).read_text())
    (folder / "id_prop.csv").write_text("".join(f"{name},{n or ''}\n" for n, name in enumerate(names[:-1])))
    report = check(folder, tmp_path)
    assert report.unnamed_files == names[-1:]
    assert report.clean


def test_long_lists_are_cut_on_the_screen_only(tmp_path: Path, crystals) -> None:
    row = {"id": "Si", "gap": 1, "atoms": crystals["Si"].to_jarvis().to_dict()}
    (tmp_path / "d.jsonl").write_text("\n".join([json.dumps(row)] * 51))
    report = check(tmp_path / "d.jsonl", tmp_path)
    assert len(report.skipped) == 50
    assert "... and 30 more" in report.text()


def test_batches_and_cells_that_do_not_fit(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("crysmm.audit.check", "crysmm.training.prepare"):
        monkeypatch.setattr(f"{module}.memory_limit", lambda device: 450 << 20)
    report = check(table, tmp_path, model="alignn", engine="dgl")
    ids = {"id_train": ["NaCl"], "id_val": ["Cu"], "id_test": []}
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    named = check(table, tmp_path, model="alignn", engine="dgl", ids_file=tmp_path / "ids.json")
    assert "NaCl (too large: 8 atoms" in named.split_problem
    assert [row.id for row in report.oversized] == ["NaCl"]  # 18 bonds an atom, and 8 atoms
    assert report.findings[-1].startswith("a batch does not fit in memory")
    assert check(table, tmp_path, model="alignn", engine="dgl", max_triplets=1).costs.mean_batch_memory < 450 << 20
    merging = check(table, tmp_path, model="alignn")
    assert not merging.oversized  # of which one atom of each element is computed
    assert merging.costs.largest_batch_memory < report.costs.largest_batch_memory


def test_nothing_to_check() -> None:
    with pytest.raises(InputError, match="root_dir"):
        check_input(TrainingConfig())


@pytest.mark.parametrize(
    ("model", "n_edges", "n_triplets", "measured"),
    [(CGCNNConfig(), 20124, 241488, 239), (GATGNNConfig(), 20124, 241488, 579), (ALIGNNConfig(), 5166, 69010, 1397)],
)
def test_estimated_memory_is_near_what_was_measured(model, n_edges: int, n_triplets: int, measured: float) -> None:
    """Growth of the resident memory in MB over three steps in fp32 on Materials Project crystals."""
    estimate = estimated_memory(model, n_edges, n_triplets) - estimated_memory(model, 0, 0)
    assert estimate / 2**20 == pytest.approx(measured, rel=1 / 3)


def test_memory_limit_is_the_machines() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < memory_limit(torch.device("cpu")) <= 1.01 * total
    assert [format_size(size) for size in (512, 98.4 * 1024, 1010 * 2**20, 3.5 * 2**30)] == [
        "512 B",
        "98.4 kB",
        "0.986 GB",
        "3.5 GB",
    ]


@pytest.mark.parametrize(("text", "limit"), [("4096\n", 4096), ("max\n", None)])
def test_memory_limit_is_the_containers(
    text: str, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr("crysmm.data.estimate.CONTAINER_LIMIT", tmp_path / "memory.max")
    assert memory_limit(torch.device("cpu")) == (limit or machine)


def test_formulas_and_notes_are_reported(tmp_path: Path, crystals) -> None:
    """Of five files, one agrees with its formula, one but for hydrogen, one contradicts it, two have none."""
    folder = tmp_path / "crystals"
    folder.mkdir()
    cell = "".join(f"_cell_length_{axis} 4.2\n" for axis in "abc")
    cell += "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
    sites = (
        "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nNi1 0 0 0\nO1 .5 .5 .5\n"
    )
    formulas = {"agrees": "Ni O", "lacks": "Ni O H", "contradicts": "Ni O2", "none": "?", "nothing": "?"}
    for number, (name, formula) in enumerate(formulas.items()):
        text = f"data_a\n_chemical_formula_sum '{formula}'\n{cell.replace('4.2', f'4.{number}')}{sites}"
        (folder / f"{name}.cif").write_text(text)
    (folder / "id_prop.csv").write_text("".join(f"{name},1.5\n" for name in formulas))
    report = check(folder, tmp_path)
    assert report.n_formulas == 2
    assert [(note.id, note.file) for note in report.notes] == [("lacks", "lacks.cif")]
    text = report.text()
    assert "lacks in lacks.cif: 100% of the hydrogen in the formula 'Ni O H' has no positions" in text
    assert "in the files: 2 agree with the atoms, 1 contradict them, 2 readable files give none" in text
    assert report.findings[0] == "1 row that cannot be used"
