from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crysmm.config import CGCNNConfig, TrainingConfig
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError
from crysmm.inference.assessment import Assessment
from crysmm.inference.prediction_table import read_predictions, write_predictions

TARGETS = np.array([[1.0], [0.1], [2e-300]])


def make_scaler(targets: np.ndarray, **settings: Any) -> TargetScaler:
    return TargetScaler.fit(targets, range(len(targets)), TrainingConfig(**settings))


def test_one_target_with_every_digit(tmp_path: Path) -> None:
    predictions = np.array([[1 / 3], [0.1 + 0.2], [1e22]])
    path = tmp_path / "out.csv"
    write_predictions(path, ["a", "b,c", "d"], TARGETS, Assessment(predictions), make_scaler(TARGETS), ["gap"])
    assert path.read_text() == (
        'id,target,prediction\na,1.0,0.3333333333333333\n"b,c",0.1,0.30000000000000004\nd,2e-300,1e+22\n'
    )


def test_several_targets(tmp_path: Path) -> None:
    targets = np.array([[1.0, 2.0], [3.0, 4.0]])
    path = tmp_path / "out.csv"
    write_predictions(path, ["a", "b"], targets, Assessment(targets + 0.5), make_scaler(targets), ["gap", "K_VRH"])
    assert path.read_text().splitlines()[:2] == [
        "id,target_gap,target_K_VRH,prediction_gap,prediction_K_VRH",
        "a,1.0,2.0,1.5,2.5",
    ]


def test_cells_of_missing_targets_are_empty_and_read_as_such(tmp_path: Path) -> None:
    targets = np.array([[1.0, np.nan], [np.nan, 4.0]])
    path = tmp_path / "out.csv"
    predictions = Assessment(np.array([[1.5, 2.5], [3.5, 4.5]]))
    write_predictions(path, ["a", "b"], targets, predictions, make_scaler(targets), ["gap", "K_VRH"])
    assert path.read_text().splitlines()[1:] == ["a,1.0,,1.5,2.5", "b,,4.0,3.5,4.5"]
    table = read_predictions(path)
    np.testing.assert_equal([table.truth("a"), table.truth("b")], targets)
    path.write_text(path.read_text().replace("2.5", ""))
    with pytest.raises(InputError, match="expected a number under prediction_K_VRH"):
        read_predictions(path)
    path.write_text("id,target,prediction\na,,1.0\n")
    with pytest.raises(InputError, match="expected a number under target"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"classification_threshold": 0.5}, ["1", "0", "0"]),
        ({"model": CGCNNConfig(classification=True)}, ["1", "0.1", "2e-300"]),
    ],
)
def test_classes_with_probabilities(tmp_path: Path, settings: dict[str, Any], labels: list[str]) -> None:
    scaler = make_scaler(TARGETS, **settings)
    probabilities = np.eye(scaler.n_outputs)[[0, 1, 1]] * 0.5 + 0.25
    write_predictions(tmp_path / "out.csv", ["a", "b", "c"], TARGETS, Assessment(probabilities), scaler, ["gap"])
    header, *rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()]
    names = sorted(set(labels), key=float)
    assert header == ["id", "target", "prediction", *(f"probability_{name}" for name in names)]
    assert [row[1] for row in rows] == labels
    assert [row[2] for row in rows] == [names[0], names[1], names[1]]
    assert rows[0][3] == "0.75"


def test_what_is_known_of_predictions_follows_them(tmp_path: Path) -> None:
    """Two targets: an interval each beside one distance and one note; what is not known has no column."""
    targets = np.array([[1.0, 2.0]])
    assessment = Assessment(
        targets,
        spread=targets / 10,
        lower=targets - 1,
        upper=np.array([[2.0, np.inf]]),
        distance_percentile=np.array([99.5]),
        domain=["Xe in no training structure"],
    )
    write_predictions(tmp_path / "out.csv", ["a"], targets, assessment, make_scaler(targets), ["gap", "K"])
    header, row = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()]
    assert dict(zip(header, row, strict=True)) == {
        "id": "a", "target_gap": "1.0", "target_K": "2.0", "prediction_gap": "1.0", "prediction_K": "2.0",
        "spread_gap": "0.1", "spread_K": "0.2", "lower_gap": "0.0", "lower_K": "1.0", "upper_gap": "2.0",
        "upper_K": "inf", "distance_percentile": "99.5", "domain": "Xe in no training structure",
    }  # fmt: skip
