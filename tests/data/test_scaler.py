import json
from typing import Any

import numpy as np
import pytest
import torch

from crysmm.config import CGCNNConfig, TrainingConfig
from crysmm.data.scaler import TargetScaler, class_label
from crysmm.errors import InputError

BULK_MODULI = np.array([[83.0], [194.0], [2.5], [443.0], [0.31]])  # GPa


def test_standardized_on_the_training_rows_alone() -> None:
    scaler = TargetScaler.fit(BULK_MODULI, [0, 1, 2], TrainingConfig())
    encoded = scaler.encode(torch.from_numpy(BULK_MODULI))[:3]
    assert encoded.mean().item() == pytest.approx(0, abs=1e-12)
    assert encoded.std(correction=0).item() == pytest.approx(1)
    assert scaler.mean[0] == pytest.approx((83 + 194 + 2.5) / 3)


@pytest.mark.parametrize("transform", ["none", "log10"])
@pytest.mark.parametrize("standardize", [True, False])
def test_decode_inverts_encode(transform: str, standardize: bool) -> None:
    targets = np.hstack([BULK_MODULI, BULK_MODULI[::-1] * 3])
    config = TrainingConfig(target_transform=transform, standardize_target=standardize)
    scaler = TargetScaler.fit(targets, [0, 1, 3], config)
    encoded = scaler.encode(torch.from_numpy(targets))
    assert torch.allclose(scaler.decode(encoded), torch.from_numpy(targets), rtol=1e-12)
    transformed = np.log10(targets) if transform == "log10" else targets
    assert np.allclose(encoded, (transformed - scaler.mean) / scaler.std if standardize else transformed, rtol=1e-12)
    assert scaler.n_outputs == 2


def test_float32_targets_stay_float32_and_predictions_come_as_float64() -> None:
    scaler = TargetScaler.fit(BULK_MODULI, [0, 1, 2], TrainingConfig())
    assert scaler.encode(torch.tensor(BULK_MODULI, dtype=torch.float32)).dtype == torch.float32
    assert scaler.decode(torch.zeros(4, 1)).dtype == torch.float64
    assert scaler.decode(torch.zeros(1, 1, dtype=torch.bfloat16)).shape == (1, 1)


def test_equal_targets_do_not_divide_by_zero() -> None:
    targets = np.full((4, 1), 0.1)
    scaler = TargetScaler.fit(targets, [0, 1, 2], TrainingConfig())
    assert scaler.encode(torch.from_numpy(targets)).abs().max() < 1e-12


def test_link_switches_standardization_off() -> None:
    scaler = TargetScaler.fit(BULK_MODULI, [0, 1, 2], TrainingConfig(model=CGCNNConfig(link="log")))
    assert not scaler.standardize
    assert scaler.decode(torch.tensor([[7.0]])).item() == 7.0


def test_threshold_makes_two_classes() -> None:
    scaler = TargetScaler.fit(BULK_MODULI, [0, 1, 2], TrainingConfig(classification_threshold=83))
    assert scaler.encode(torch.tensor(BULK_MODULI, dtype=torch.float32)).tolist() == [0, 1, 0, 1, 0]
    assert (scaler.classes, scaler.n_outputs) == ((0.0, 1.0), 2)


def test_target_equal_to_the_threshold_is_not_above_it_in_any_precision() -> None:
    targets = np.array([[0.1], [0.2]])  # 0.1 in float32 is more than 0.1 in float64
    scaler = TargetScaler.fit(targets, [0, 1], TrainingConfig(classification_threshold=0.1))
    assert scaler.encode(torch.tensor(targets, dtype=torch.float32)).tolist() == [0, 1]
    assert scaler.encode(torch.tensor(targets, dtype=torch.float64)).tolist() == [0, 1]


def test_distinct_values_are_the_classes() -> None:
    targets = np.array([[225.0], [14.0], [0.1], [225.0]])
    config = TrainingConfig(model=CGCNNConfig(classification=True))
    scaler = TargetScaler.fit(targets, [0, 1, 2], config)
    assert scaler.classes == (0.1, 14.0, 225.0)
    assert scaler.encode(torch.tensor(targets, dtype=torch.float32)).tolist() == [2, 1, 0, 2]
    probabilities = scaler.decode(torch.tensor([[1.0, 2.0, 3.0]]))
    assert probabilities.sum().item() == pytest.approx(1)
    assert probabilities[0, 2].item() == pytest.approx(1 / (1 + np.exp(-1) + np.exp(-2)))


@pytest.mark.parametrize(
    ("targets", "train", "settings", "message"),
    [
        ([[0.0], [1.0], [2.0]], [0, 1], {}, r"1 of 3 have no crystal in the training split \(2\)"),
        ([[1.0], [1.0]], [0, 1], {}, "all targets are equal"),
        ([[1.0], [2.0]], [0, 1], {"classification_threshold": 5}, r"1 of 2 .* \(1\); choose another"),
        ([[1.0, 2.0]], [0], {}, "one target, got 2"),
    ],
)
def test_classes_that_cannot_be_learned(
    targets: list[list[float]], train: list[int], settings: dict[str, Any], message: str
) -> None:
    config = TrainingConfig(model=CGCNNConfig(classification=True), **settings)
    with pytest.raises(InputError, match=message):
        TargetScaler.fit(np.array(targets), train, config)


def test_each_target_is_standardized_on_the_labels_it_has() -> None:
    targets = np.array([[1.0, 10.0], [3.0, np.nan], [np.nan, 30.0], [500.0, 500.0]])
    scaler = TargetScaler.fit(targets, [0, 1, 2], TrainingConfig())
    assert (scaler.mean, scaler.std) == ((2.0, 20.0), (1.0, 10.0))
    np.testing.assert_equal(scaler.encode(torch.tensor(targets[:3])).numpy(), [[-1, -1], [1, np.nan], [np.nan, 1]])


@pytest.mark.parametrize("n_targets", [1, 3])
def test_complete_targets_are_standardized_as_by_numpy(n_targets: int) -> None:
    """Bit for bit."""
    targets = np.random.default_rng(0).lognormal(size=(129, n_targets))
    scaler = TargetScaler.fit(targets, range(100), TrainingConfig())
    assert scaler.mean == tuple(targets[:100].mean(axis=0).tolist())
    assert scaler.std == tuple(targets[:100].std(axis=0).tolist())


@pytest.mark.parametrize(
    ("targets", "weights", "message"),
    [
        ([[1.0, np.nan], [2.0, np.nan], [3.0, 1.0]], None, "1 of 2 targets have no value in the training split"),
        ([[1.0, 2.0]] * 3, (1, 2, 3), "--target_weights: 3 numbers given; expected 2, one for each target"),
    ],
)
def test_targets_that_cannot_be_trained_on(targets: Any, weights: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TargetScaler.fit(np.array(targets), [0, 1], TrainingConfig(target_weights=weights))


@pytest.mark.parametrize("settings", [{}, {"target_transform": "log10"}, {"classification_threshold": 100}])
def test_json_round_trip_keeps_every_bit(settings: dict[str, Any]) -> None:
    scaler = TargetScaler.fit(BULK_MODULI, [0, 1, 4], TrainingConfig(**settings))
    assert TargetScaler.model_validate(json.loads(json.dumps(scaler.model_dump(mode="json")))) == scaler


def test_drift_is_in_deviations_of_what_was_learned() -> None:
    scaler = TargetScaler.fit(BULK_MODULI, [0, 1, 2], TrainingConfig(target_transform="log10"))
    off = BULK_MODULI * 10 ** (0.01 * scaler.std[0])
    assert scaler.drift(off, BULK_MODULI) == pytest.approx(0.01)


def test_class_labels() -> None:
    assert [class_label(value) for value in (0.0, 225.0, 0.5)] == ["0", "225", "0.5"]
