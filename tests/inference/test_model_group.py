"""A group of shipped models, which predict their properties from one graph per structure."""

import csv
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

import crysmm
from crysmm.cli.main import main
from crysmm.config import TrainingConfig
from crysmm.inference.assessment import Assessment
from crysmm.training.train import train

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
UNITS = {"K_VRH": "GPa", "volume": None}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, small_run):
    """Two small models, of bulk moduli and of volumes, as if they were shipped."""
    folder = tmp_path_factory.mktemp("zoo")
    with (SAMPLE_DATA / "id_prop.csv").open(newline="") as file:
        moduli = {row["id"]: float(row["K_VRH"]) for row in csv.DictReader(file)}
    rows = []
    for name, modulus in list(moduli.items())[:60]:
        atoms = read(SAMPLE_DATA / f"{name}.vasp")
        crystal = {"lattice_mat": atoms.cell.tolist(), "frac_coords": atoms.get_scaled_positions().tolist()}
        values = {"K_VRH": modulus, "volume": float(atoms.get_volume()) / len(atoms)}
        rows.append({"id": name, "elements": atoms.get_chemical_symbols(), **crystal, **values})
    for target in UNITS:
        config = TrainingConfig(
            target_key=target,
            id_key="id",
            output_dir=folder / f"jarvis-{target}",
            cache_dir=folder / "cache",
            epochs=2,
            **small_run,
        )
        train(config, records=rows)
    return folder


@pytest.fixture
def group(zoo, monkeypatch):
    monkeypatch.setattr("crysmm.zoo.ZOO", zoo)
    return crysmm.load("jarvis", device="cpu")


@pytest.fixture
def alone(group):
    return {name: crysmm.load(f"jarvis-{name}", device="cpu") for name in UNITS}


def test_predictions_are_those_of_each_model(group, alone):
    files = sorted(SAMPLE_DATA.glob("*.vasp"))[:12]
    assert group.target_names == tuple(UNITS)
    assert group.units == ("GPa", None)
    together, own = group.assess(files), [alone[name].assess(files) for name in UNITS]
    for attribute in ("predictions", "lower", "upper"):
        expected = np.concatenate([getattr(assessment, attribute) for assessment in own], axis=1)
        np.testing.assert_array_equal(getattr(together, attribute), expected)
    np.testing.assert_array_equal(group.predict(files), together.predictions)
    distances = np.stack([assessment.distance_percentile for assessment in own])
    np.testing.assert_array_equal(together.distance_percentile, distances.max(axis=0))
    assert group.predict(files[0]).shape == (2,)


def test_graphs_are_made_once(group, monkeypatch):
    make, made = crysmm.inference.predictor.make_batch, []

    def counted(*arguments, **options):
        made.append(make(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("crysmm.inference.predictor.make_batch", counted)
    group.predict(sorted(SAMPLE_DATA.glob("*.vasp"))[:5])
    assert len(made) == 1


def test_command_line_lists_each_property(group, alone, tmp_path, capsys):
    file = sorted(SAMPLE_DATA.glob("*.vasp"))[3]
    (bad := tmp_path / "bad.cif").write_text("")
    output = tmp_path / "table.csv"
    main(["predict", "--model", "jarvis", "--files", str(file), str(bad), "--output", str(output)])
    shown = capsys.readouterr().out.splitlines()
    expected = {name: alone[name].assess([file]) for name in UNITS}
    for line, (name, unit) in zip(shown[1:3], UNITS.items(), strict=True):
        value, lower, upper = (getattr(expected[name], key)[0, 0] for key in ("predictions", "lower", "upper"))
        assert line.split("  ")[1].strip() == name
        assert f"  {value:.4g}{f' {unit}' if unit else ''}  ({lower:.4g} to {upper:.4g})" in line
    assert shown[3] == "bad.cif: the file is empty"
    with output.open(newline="") as table:
        row, failed = csv.DictReader(table)
    assert float(row["prediction_volume"]) == expected["volume"].predictions[0, 0]
    assert failed["reason"] == "the file is empty"


def test_notes_name_the_models_they_do_not_hold_for():
    """By hand: Xe is in no training structure of both, U only in none of the first model's; the second finds it far."""
    predictions, distances = np.zeros((1, 1)), [np.array([40.0]), np.array([99.5])]
    notes = ["Xe in no training structure; U in no training structure", "Xe in no training structure; far away"]
    parts = [Assessment(predictions, distance_percentile=d, domain=[n]) for d, n in zip(distances, notes, strict=True)]
    joined = Assessment.join(["gap", "modulus"], parts)
    assert joined.domain == ["Xe in no training structure; U in no training structure (gap); far away (modulus)"]
    assert joined.distance_percentile == [99.5]
    assert joined.lower is None


def test_a_folder_of_that_name_comes_first(zoo, monkeypatch, tmp_path, save_small_model):
    monkeypatch.setattr("crysmm.zoo.ZOO", zoo)
    monkeypatch.chdir(tmp_path)
    save_small_model(tmp_path / "jarvis")
    assert crysmm.load("jarvis", device="cpu").target_names == ("K_VRH",)
