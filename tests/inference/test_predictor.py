import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

import crysmm.inference.predictor
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.data.building import ROWS_PER_TASK, TASKS_AHEAD, in_parallel
from crysmm.errors import InputError, ModelFolderError, StructureError
from crysmm.inference.frozen_network import Outputs
from crysmm.inference.predictor import load
from crysmm.inference.property_model import PropertyModel
from crysmm.inference.screening import screen
from crysmm.io.inputs import StructuresSource, source_from_files
from crysmm.io.source import Row, SkippedRow, Source
from crysmm.models.networks import PropertyNetwork

Save = Callable[..., PropertyNetwork]
BACKBONES = ["cgcnn", "crysxpp", "gatgnn", "alignn"]

POSCAR = """silicon
5.431
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
Si
2
Direct
0.0 0.0 0.0
0.25 0.25 0.25
"""


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", BACKBONES)
def test_prediction_depends_on_nothing_but_the_structure(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save, name: str
) -> None:
    save_small_model(tmp_path, name)
    predictor = load(tmp_path, device="cpu")
    structures = list(crystals.values())
    together = predictor.predict(structures)
    assert together.shape == (len(structures), 1)
    for batch_size in (1, 5):
        np.testing.assert_allclose(predictor.predict(structures, batch_size), together, rtol=1e-9)
    np.testing.assert_allclose(predictor.predict(structures[::-1])[::-1], together, rtol=1e-9)
    assert len(np.unique(together.round(6))) > 6  # the crystals are told apart


@pytest.mark.parametrize("name", BACKBONES)
def test_prediction_is_the_networks_own(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save, name: str
) -> None:
    """Against the trained network itself, in 32 bits, its outputs brought to GPa by hand."""
    network = save_small_model(tmp_path, name).eval()
    predictor = load(tmp_path, device="cpu")
    batch = collate_crystals(list(crystals.values()), predictor.model.settings)
    with torch.no_grad():
        outputs, embedding = network(batch).numpy(), network.backbone(batch).graph.numpy()
    targets = np.array([137.0, 168.0, 98.0, 42.0])
    structures = list(crystals.values())
    np.testing.assert_allclose(predictor.predict(structures), outputs * targets.std() + targets.mean(), rtol=1e-4)
    np.testing.assert_allclose(predictor.embed(structures), embedding, rtol=1e-3, atol=1e-5)


def test_any_kind_of_structure(tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save) -> None:
    from ase import Atoms as AseAtoms
    from pymatgen.core import Structure

    save_small_model(tmp_path)
    predictor = load(tmp_path, device="cpu")
    silicon = crystals["Si"]
    (tmp_path / "POSCAR").write_text(POSCAR)
    kinds = [
        silicon,
        silicon.to_jarvis(),
        silicon.to_jarvis().to_dict(),
        Structure(silicon.lattice, silicon.elements, silicon.frac_coords),
        AseAtoms(silicon.elements, cell=silicon.lattice, scaled_positions=silicon.frac_coords, pbc=True),
        tmp_path / "POSCAR",
        str(tmp_path / "POSCAR"),
    ]
    predictions = predictor.predict(kinds)
    np.testing.assert_allclose(predictions, np.repeat(predictions[:1], len(kinds), axis=0), rtol=1e-5)
    for kind in kinds:
        assert predictor.predict(kind).shape == (1,)
        np.testing.assert_allclose(predictor.predict(kind), predictions[0], rtol=1e-5)
    assert predictor.embed(silicon).shape == (8,)
    assert predictor.embed(kinds).shape == (len(kinds), 8)
    assert predictor.predict([]).shape == (0, 1)


def test_columns_arrays_and_iterators_of_structures(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save
) -> None:
    save_small_model(tmp_path)
    predictor = load(tmp_path, device="cpu")
    (tmp_path / "POSCAR").write_text(POSCAR)
    structures = [crystals["NaCl"].to_jarvis(), str(tmp_path / "POSCAR")]
    expected = predictor.predict(structures)
    assert abs(expected[0, 0] - expected[1, 0]) > 1e-3
    column = pandas.Series(structures, index=["salt", "silicon"])
    for several in (lambda: column, column.to_numpy, lambda: iter(structures), dict(column).values):
        np.testing.assert_array_equal(predictor.predict(several()), expected)
        np.testing.assert_array_equal(predictor.assess(several()).predictions, expected)
        np.testing.assert_array_equal(predictor.embed(several()), predictor.embed(structures))


def test_bad_structure_is_named_by_its_place(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save
) -> None:
    save_small_model(tmp_path)
    predictor = load(tmp_path, device="cpu")
    silicon = crystals["Si"]
    overlapping = Crystal(silicon.lattice, silicon.frac_coords * 0.01, silicon.atomic_numbers)
    with pytest.raises(StructureError, match=r"structure 2 \(counted from 0\): atoms 1 and 2 are 0\.024"):
        predictor.predict([silicon, silicon, overlapping])
    with pytest.raises(StructureError, match=r"structure 1 \(counted from 0\), new/nothing.cif: the file does not"):
        predictor.predict([silicon, "new/nothing.cif"])
    with pytest.raises(StructureError, match=r"structure 0 .* got int"):
        predictor.predict(7)


def test_probabilities(tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save) -> None:
    save_small_model(tmp_path, classification_threshold=100)
    predictor = load(tmp_path, device="cpu")
    probabilities = predictor.predict(list(crystals.values()))
    assert probabilities.shape == (12, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert predictor.classes == (0.0, 1.0)
    screen(predictor, StructuresSource([crystals["Si"]]), tmp_path / "out.csv", progress=False)
    (row,) = read_table(tmp_path / "out.csv")
    assert list(row) == ["id", "prediction", "probability_0", "probability_1", "domain", "reason", "note"]
    assert int(row["prediction"]) == probabilities[2].argmax()
    assert float(row["probability_1"]) == pytest.approx(probabilities[2, 1], rel=1e-9)


def test_bf16_is_near(tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save) -> None:
    save_small_model(tmp_path)
    structures = list(crystals.values())
    full = load(tmp_path, device="cpu").predict(structures)
    half = load(tmp_path, device="cpu", precision="bf16").predict(structures)
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, atol=0.1 * 47)  # GPa, spread of the targets


def test_drift_is_found_when_loading(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    content["references"][1]["prediction"][0] += 1.0
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match="predicted differently"):
        load(tmp_path)


def test_table_keeps_order_and_reasons(tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save) -> None:
    save_small_model(tmp_path / "model")
    predictor = load(tmp_path / "model", device="cpu")
    (tmp_path / "good, really.vasp").write_text(POSCAR)
    (tmp_path / "bad.cif").write_bytes(b"\x00\x01 junk")
    (tmp_path / "again.vasp").write_text(POSCAR)
    files = [tmp_path / name for name in ("good, really.vasp", "bad.cif", "missing.cif", "again.vasp")]
    summary = screen(predictor, source_from_files(files), tmp_path / "new" / "out.csv", progress=False)
    table = read_table(tmp_path / "new" / "out.csv")
    assert [row["id"] for row in table] == [path.name for path in files]
    assert list(table[0]) == ["id", "prediction", "domain", "unit", "reason", "note"]
    expected = predictor.predict(crystals["Si"])[0]
    for row in (table[0], table[3]):
        assert float(row["prediction"]) == pytest.approx(expected, rel=1e-5)
        assert row["reason"] == ""
    for row in (table[1], table[2]):
        assert row["prediction"] == ""
        assert row["reason"]
    assert (summary.n_predicted, summary.n_failed) == (2, 2)
    assert [row.id for row in summary.failures] == ["bad.cif", "missing.cif"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.csv"]


def test_numbers_in_the_table_are_whole(tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save) -> None:
    save_small_model(tmp_path)
    predictor = load(tmp_path, device="cpu")
    structures = list(crystals.values())
    screen(predictor, StructuresSource(structures), tmp_path / "out.csv", batch_size=64, progress=False)
    found = np.array([float(row["prediction"]) for row in read_table(tmp_path / "out.csv")])
    assert np.array_equal(found, predictor.predict(structures)[:, 0])


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_prediction_that_is_no_number_is_skipped(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save, monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    save_small_model(tmp_path / "model")
    predictor = load(tmp_path / "model", device="cpu")
    source = StructuresSource([*crystals.values(), tmp_path / "none.cif"])
    outputs = PropertyModel.outputs

    def overflowing(model: PropertyModel, batch: Any) -> Outputs:
        found = outputs(model, batch)
        return replace(found, predictions=np.where(found.predictions > 129, number, found.predictions))

    screen(predictor, source, tmp_path / "all.csv", batch_size=5, progress=False)
    monkeypatch.setattr(PropertyModel, "outputs", overflowing)
    summary = screen(predictor, source, tmp_path / "some.csv", batch_size=5, progress=False)
    expected, found = read_table(tmp_path / "all.csv"), read_table(tmp_path / "some.csv")
    high = [row["id"] for row in expected if float(row["prediction"] or "0") > 129]
    assert 0 < len(high) < len(crystals)
    assert [row["id"] for row in found if row["reason"] == "the prediction is not a finite number"] == high
    assert [row for row in found if row["id"] not in high] == [row for row in expected if row["id"] not in high]
    assert summary.n_failed == len(high) + 1


def test_elements_not_seen_in_training(tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save) -> None:
    save_small_model(tmp_path)  # of O, Na, Si, Cl, Cu
    source = StructuresSource([crystals[name] for name in ("SrTiO3", "TiO2", "NaCl")])
    summary = screen(load(tmp_path, device="cpu"), source, tmp_path / "out.csv", progress=False)
    assert summary.unseen == {"Ti": 2, "Sr": 1}
    notes = [row["domain"] for row in read_table(tmp_path / "out.csv")]
    assert notes == ["Sr, Ti in no training structure", "Ti in no training structure", ""]


def test_memory_bounds_batches_and_refuses_giants(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_small_model(tmp_path, "alignn")
    structures = list(crystals.values())
    predictor = load(tmp_path, device="cpu")
    expected = predictor.predict(structures)
    sizes = []
    make_batch = crysmm.inference.predictor.make_batch

    def spy(arrays: Any, settings: Any, ids: list[str], *, merge: bool) -> Any:
        sizes.append(len(ids))
        return make_batch(arrays, settings, ids, merge=merge)

    def memory(model: Any, n_edges: float, n_triplets: float) -> float:
        return n_triplets / crysmm.inference.predictor.PREDICTION_FRACTION

    monkeypatch.setattr(crysmm.inference.predictor, "make_batch", spy)
    monkeypatch.setattr(crysmm.inference.predictor, "estimated_memory", memory)
    monkeypatch.setattr("crysmm.data.estimate.estimated_memory", memory)
    monkeypatch.setattr(crysmm.inference.predictor, "BATCH_MEMORY", 300)
    np.testing.assert_allclose(predictor.predict(structures), expected, rtol=1e-9)
    assert sum(sizes) == 12
    assert max(sizes) > 1
    assert len(sizes) > 3
    monkeypatch.setattr(predictor, "_memory_limit", 300)
    summary = screen(predictor, StructuresSource(structures), tmp_path / "out.csv", progress=False)
    assert 0 < summary.n_failed < 12
    assert summary.failures[0].reason.startswith("too large: ")


class Repeated(Source):
    """A structure so many times, in a source that does not know its length; counts the rows taken from it."""

    target_names = ()
    n_rows = None

    def __init__(self, crystal: Crystal, times: int, broken_after: int | None = None):
        self.crystal, self.times, self.broken_after = crystal, times, broken_after
        self.taken = 0

    def rows(self) -> Iterator[Row | SkippedRow]:
        source = StructuresSource([self.crystal] * self.times)
        for row in source.rows():
            if self.taken == self.broken_after:
                raise InputError("row 10 is not JSON")
            self.taken += 1
            yield row

    def fingerprint(self) -> str:
        return ""


def test_workers_give_the_same_and_run_ahead_a_little_only(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save
) -> None:
    save_small_model(tmp_path)
    predictor = load(tmp_path, device="cpu")
    results = in_parallel(source := Repeated(crystals["Si"], 2000), predictor.model.settings, jobs=2)
    next(results)
    assert source.taken <= ROWS_PER_TASK * TASKS_AHEAD * 2
    results.close()  # type: ignore[attr-defined]
    source = Repeated(crystals["Si"], 300)
    summary = screen(predictor, source, tmp_path / "out.csv", jobs=2, progress=False)
    assert summary.n_predicted == 300
    table = read_table(tmp_path / "out.csv")
    assert [row["id"] for row in table] == [str(number) for number in range(300)]
    values = [float(row["prediction"]) for row in table]
    np.testing.assert_allclose(values, predictor.predict(crystals["Si"])[0], rtol=1e-9)


def test_a_coverage_that_is_none_is_refused(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path)
    with pytest.raises(InputError, match="coverage is 1e-09; expected a number between 0 and 1"):
        load(tmp_path, device="cpu").assess([], coverage=1e-9)


def test_table_is_replaced_only_by_a_whole_one(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save
) -> None:
    save_small_model(tmp_path / "model")
    predictor = load(tmp_path / "model", device="cpu")
    output = tmp_path / "out.csv"
    output.write_text("id,prediction\nkept,1\n")
    with pytest.raises(InputError, match="row 10 is not JSON"):
        screen(predictor, Repeated(crystals["Si"], 20, broken_after=10), output, jobs=1, progress=False)
    assert output.read_text() == "id,prediction\nkept,1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out.csv"]


def test_output_that_cannot_be_written_is_told_first(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save
) -> None:
    save_small_model(tmp_path)
    predictor = load(tmp_path, device="cpu")
    source = Repeated(crystals["Si"], 2)
    with pytest.raises(InputError, match="is a folder"):
        screen(predictor, source, tmp_path, progress=False)
    with pytest.raises(InputError, match="is a file"):
        screen(predictor, source, tmp_path / "model.json" / "out.csv", progress=False)
    assert source.taken == 0


@pytest.mark.parametrize("content", ["id,target\nsalt.vasp,1.5\n", POSCAR, "{}", None])
def test_output_that_is_something_else_is_left(
    content: str | None, tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save
) -> None:
    """Labels, a structure, a model, and what is no file at all."""
    save_small_model(tmp_path / "model")
    output = tmp_path / "out.csv"
    os.mkfifo(output) if content is None else output.write_text(content)
    source = Repeated(crystals["Si"], 2)
    with pytest.raises(InputError, match="is there and is no table of predictions"):
        screen(load(tmp_path / "model", device="cpu"), source, output, progress=False)
    assert source.taken == 0
    assert output.is_fifo() if content is None else output.read_text() == content


def test_an_empty_file_and_an_older_table_are_replaced(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save
) -> None:
    save_small_model(tmp_path / "model")
    predictor, output = load(tmp_path / "model", device="cpu"), tmp_path / "out.csv"
    output.touch()
    for _ in range(2):
        screen(predictor, Repeated(crystals["Si"], 2), output, jobs=1, progress=False)
        assert len(output.read_text().splitlines()) == 3
