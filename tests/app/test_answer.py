"""Answers of the app, compared with those of the package."""

import csv
import json
import os
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

import crysmm
from crysmm.app.answer import MAX_FILE_SIZE, MAX_FILES, Answer, Models, answer, explain
from crysmm.app.cards import EXAMPLE_FILES, EXAMPLES
from crysmm.cli.main import main
from crysmm.crystals.crystal import cell_parameters
from crysmm.errors import InputError, MissingDependencyError, ModelFolderError
from crysmm.inference.predictor import Predictor
from crysmm.inference.property_model import PropertyModel

QUARTZ = 154  # P3_221
RUTILE = 136


@pytest.fixture(scope="module")
def predictor(run_folder):
    return crysmm.load(run_folder, device="cpu")


@pytest.fixture(scope="module")
def answers(predictor, sample_files):
    return answer(predictor, "bulk", sample_files)


@pytest.fixture
def bad_files(tmp_path):
    """Return files, each with a word of the reason why it cannot be predicted."""
    contents = {"broken.cif": "nothing", "empty.vasp": "", "molecule.xyz": "1\nno lattice\nO 0 0 0\n", "binary": "\0\1"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    with (tmp_path / "large.vasp").open("w") as file:
        os.truncate(file.fileno(), MAX_FILE_SIZE + 1)
    reasons = {"broken.cif": "CIF", "empty.vasp": "empty", "molecule.xyz": "no cell", "binary": "binary"}
    return {tmp_path / name: why for name, why in (reasons | {"large.vasp": "at most 20 MB"}).items()}


def test_predictions_are_those_of_assess(predictor, answers, sample_files):
    expected = predictor.assess(sample_files)
    assert [found.id for found in answers.found] == [file.name for file in sample_files]
    values = [found.values[0] for found in answers.found]
    assert {value.name for value in values} == {"K_VRH"}
    for kind, numbers in (("value", expected.predictions), ("lower", expected.lower), ("upper", expected.upper)):
        np.testing.assert_array_equal([getattr(value, kind) for value in values], numbers[:, 0])
    assert [found.distance_percentile for found in answers.found] == expected.distance_percentile.tolist()
    assert [found.domain for found in answers.found] == expected.domain
    assert [found.nearest for found in answers.found] == list(expected.nearest)


def test_table_is_that_of_predict(answers, run_folder, sample_files, tmp_path):
    arguments = ["predict", "--model", str(run_folder), "--device", "cpu", "--output", str(tmp_path / "out.csv")]
    assert main([*arguments, "--files", *map(str, sample_files)]) == 0
    assert answers.table() == (tmp_path / "out.csv").read_text()


def test_bad_files_are_named_and_the_others_predicted(predictor, sample_files, bad_files):
    files = [*sample_files[:1], *bad_files, *sample_files[1:2]]
    answers = answer(predictor, "bulk", files)
    assert [row.id for row in answers.failed] == [file.name for file in bad_files]
    for row, reason in zip(answers.failed, bad_files.values(), strict=True):
        assert reason in row.reason
        assert str(files[1].parent) not in row.reason
    expected = predictor.predict(sample_files[:2])[:, 0]
    assert [found.values[0].value for found in answers.found] == expected.tolist()
    assert isinstance(answers.results[0], Answer)
    rows = list(csv.DictReader(answers.table().splitlines()))
    assert [row["id"] for row in rows] == [file.name for file in files]
    assert [bool(row["prediction"]) for row in rows] == [True, *[False] * len(bad_files), True]


def test_too_many_files_are_refused(predictor, sample_files):
    with pytest.raises(InputError, match=f"{MAX_FILES + 1} files are too many for the app"):
        answer(predictor, "bulk", sample_files[:1] * (MAX_FILES + 1))


def test_files_with_one_name_get_distinct_ids(predictor, sample_files, tmp_path):
    for folder, file in zip("ab", sample_files, strict=False):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "POSCAR").write_text(file.read_text())
    found = answer(predictor, "bulk", [tmp_path / "a" / "POSCAR", tmp_path / "b" / "POSCAR"]).found
    assert [one.id for one in found] == ["POSCAR", "POSCAR (2)"]
    assert [one.values[0].value for one in found] == predictor.predict(sample_files[:2])[:, 0].tolist()


def test_cell_parameters(crystals):
    lengths, angles = cell_parameters(crystals["ZrO2"].lattice)
    np.testing.assert_allclose(lengths, [5.1505, 5.2116, 5.3173])
    np.testing.assert_allclose(angles, [90, 99.23, 90])


def test_example_crystals_match_their_names(predictor):
    found = answer(predictor, "bulk", [EXAMPLE_FILES / name for name in EXAMPLES.values()]).found
    said = {one.id: (one.crystal.formula, len(one.crystal), one.space_group) for one in found}
    assert said == {
        "quartz.cif": ("O2Si", 9, QUARTZ),
        "rutile.vasp": ("O2Ti", 6, RUTILE),
        "perovskite.vasp": ("O3SrTi", 5, 221),
    }


def test_json_holds_everything_and_no_infinity(predictor, answers):
    first = answers.found[0]
    _, explanation = explain(predictor, first)
    endless = replace(first, values=[replace(first.values[0], lower=-np.inf, upper=np.inf)])
    content = json.loads(replace(answers, results=[endless]).json(explanation))
    (crystal,) = content["crystals"]
    assert (content["model"], content["coverage"]) == ("bulk", 0.9)
    assert crystal["values"] == [
        {"name": "K_VRH", "unit": "GPa", "value": first.values[0].value, "spread": None, "lower": None, "upper": None}
    ]
    assert [near["id"] for near in crystal["nearest"]] == [near.crystal.id for near in first.nearest]
    assert content["explanation"] == asdict(explanation)


def test_explanation_adds_up_to_the_prediction(predictor, answers):
    for found in answers.found[:2]:
        quantity, explanation = explain(predictor, found)
        assert quantity == "K_VRH (GPa)"
        assert explanation.prediction == pytest.approx(found.values[0].value, rel=1e-6)
        for rows in (explanation.atoms, explanation.elements, explanation.features):
            total = sum(row["contribution"] for row in rows)
            assert explanation.baseline + total == pytest.approx(explanation.prediction, abs=1e-3)


def test_predictions_that_cannot_be_explained_have_a_reason(predictor, answers, monkeypatch):
    ensemble = Predictor([PropertyModel([predictor.model, predictor.model])])
    with pytest.raises(InputError, match="choose one of them"):
        explain(ensemble, answers.found[0])
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        explain(predictor, answers.found[0])


def test_models_offered(run_folder, tmp_path):
    names = Models([run_folder]).names
    assert names[0] == str(run_folder)
    assert "cgcnn-formation-energy" in names
    assert "decoys-mp" not in names  # an encoder
    with pytest.raises(ModelFolderError, match="is not a crysmm model folder"):
        Models([tmp_path])
