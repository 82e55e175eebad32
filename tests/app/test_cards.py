"""HTML of the cards: escaped, and complete for every kind of model."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

import crysmm
from crysmm.app.answer import answer
from crysmm.app.cards import (
    crystal_page,
    explanation_missing,
    model_card,
    problem,
    problems,
    readable_formula,
    summary_columns,
    summary_rows,
)
from crysmm.inference.domain import Neighbor, TrainingCrystal
from crysmm.io.source import SkippedRow

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def predictor(run_folder):
    return crysmm.load(run_folder, device="cpu")


@pytest.fixture(scope="module")
def answers(predictor, sample_files):
    return answer(predictor, "bulk", sample_files[:2])


@pytest.mark.parametrize(
    ("formula", "readable"),
    [("O2Ti", "TiO2"), ("O2Si", "SiO2"), ("ClNa", "NaCl"), ("O3SrTi", "SrTiO3"), ("Cu", "Cu"), ("H2O", "H2O")],
)
def test_formulas_are_written_as_chemists_do(formula, readable):
    assert readable_formula(formula, "{}") == readable


def test_other_text_is_only_escaped():
    assert readable_formula(HOSTILE) == "&lt;img src=x onerror=alert(1)&gt;"


def test_space_groups_by_name(predictor, answers):
    names = {
        166: 'R<span style="text-decoration:overline">3</span>m (166), trigonal',
        136: "P4<sub>2</sub>/mnm (136), tetragonal",
        0: "not found",
    }
    for number, name in names.items():
        page = crystal_page(predictor, replace(answers.found[0], space_group=number), "")
        assert f"<dt>Space group</dt><dd>{name}</dd>" in page


def test_foreign_text_is_escaped_everywhere(predictor, answers):
    hostile = replace(
        answers.found[0],
        id=HOSTILE,
        domain=HOSTILE,
        nearest=[Neighbor(TrainingCrystal(HOSTILE, HOSTILE), 1.0)],
        values=[replace(answers.found[0].values[0], name=HOSTILE)],
    )
    failed = replace(answers, results=[SkippedRow(HOSTILE, HOSTILE, HOSTILE)], undescribed={HOSTILE: HOSTILE})
    shown = [crystal_page(predictor, hostile, explanation_missing(HOSTILE)), problems(failed), problem(HOSTILE)]
    assert all("<img" not in html for html in shown)
    assert sum(html.count("&lt;img") for html in shown) >= 8


def test_nearest_crystals_have_their_targets(predictor, answers):
    page = crystal_page(predictor, answers.found[0], "")
    assert "<th>ID</th><th>K_VRH (GPa)</th><th>Distance</th>" in page
    with (SAMPLE_DATA / "id_prop.csv").open(newline="") as file:
        moduli = {row["id"]: float(row["K_VRH"]) for row in csv.DictReader(file)}
    for near in answers.found[0].nearest:
        assert f">{near.crystal.id}</td><td>{moduli[near.crystal.id]:.4g}</td>" in page
    before = [near._replace(crystal=near.crystal._replace(targets=())) for near in answers.found[0].nearest]
    page = crystal_page(predictor, replace(answers.found[0], nearest=before), "")
    assert "<th>ID</th><th>Distance</th>" in page


def test_a_value_with_its_interval(predictor, answers):
    (value,) = answers.found[0].values
    page = crystal_page(predictor, answers.found[0], "")
    for number in (value.value, value.lower, value.upper):
        assert f"{number:.4g}" in page
    endless = replace(answers.found[0], values=[replace(value, lower=float("-inf"), upper=float("inf"))])
    assert "too few validation crystals" in crystal_page(predictor, endless, "")


def test_summary_has_one_row_per_file(answers):
    both = replace(answers, results=[answers.results[0], SkippedRow("bad.cif", "bad.cif", "the file is empty")])
    assert summary_columns(both) == ["File", "Formula", "Atoms", "K_VRH (GPa)", "90% interval", "Notes"]
    first, second = summary_rows(both)
    value = answers.found[0].values[0]
    assert first[3:5] == [float(f"{value.value:.4g}"), f"{value.lower:.4g} to {value.upper:.4g}"]
    assert second == ["bad.cif", None, None, None, None, "the file is empty"]
    several = replace(both, results=[replace(answers.found[0], values=[value, replace(value, name="G_VRH")])])
    assert summary_columns(several)[3:7] == [
        "K_VRH (GPa)", "90% interval of K_VRH", "G_VRH (GPa)", "90% interval of G_VRH"
    ]  # fmt: skip
    assert len(summary_rows(several)[0]) == len(summary_columns(several))
    endless = replace(answers.found[0], values=[replace(value, lower=float("-inf"), upper=float("inf"))])
    assert summary_rows(replace(both, results=[endless]))[0][4] == "-"


def test_classes_and_models_without_calibration(save_small_model, sample_files, tmp_path):
    save_small_model(tmp_path, classification_threshold=100.0)
    predictor = crysmm.load(tmp_path, device="cpu")
    answers = answer(predictor, "classes", sample_files[:1])
    page = crystal_page(predictor, answers.found[0], "")
    probabilities = predictor.predict(sample_files[:1])[0]
    assert f'<p class="value">class {int(probabilities.argmax())}</p>' in page
    assert all(f"{probability:.3g}" in page for probability in probabilities)
    assert "This model has no calibration" in page
    assert "Nearest training crystals" not in page
    assert "predicts the class <b>K_VRH</b>" in model_card(predictor)
