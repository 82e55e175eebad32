"""The loss and the metrics of learning properties, against numbers worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from crysmm.config import TrainingConfig
from crysmm.data.scaler import TargetScaler
from crysmm.objectives.property import PropertyObjective, baseline

VALUES = np.array([[1.0], [2.0], [3.0], [6.0]])  # mean 3, population deviation sqrt(3.5)


class Answers(nn.Module):
    """A network that gives the outputs it was made with."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = torch.tensor(outputs)
        self.backbone = SimpleNamespace(penalty=lambda: 0.0)

    def forward(self, batch):
        return self.outputs


def objective_of(outputs, targets=VALUES, criterion="l1", **settings):
    scaler = TargetScaler.fit(targets, range(len(targets)), TrainingConfig(**settings))
    return PropertyObjective(Answers(outputs), scaler, criterion)


def batch_of(targets=VALUES):
    return SimpleNamespace(targets=torch.from_numpy(targets))


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [("l1", (2 + 1 + 0 + 3) / 4), ("mse", (4 + 1 + 0 + 9) / 4), ("huber", (1.5 + 0.5 + 0 + 2.5) / 4)],
)
def test_criteria_without_standardisation(criterion, expected):
    """Predicting 3 for everything; huber is quadratic up to 1."""
    objective = objective_of([[3.0]] * 4, criterion=criterion, standardize_target=False)
    assert objective.training_loss(batch_of()).item() == pytest.approx(expected)


def test_loss_is_of_standardised_targets_and_mae_in_original_units():
    objective = objective_of([[0.0]] * 4)
    assert objective.training_loss(batch_of()).item() == pytest.approx(1.5 / np.sqrt(3.5))
    metrics = objective.metrics(batch_of())
    assert metrics["mae"].tolist() == pytest.approx([2, 1, 0, 3])
    assert metrics["loss"].mean().item() == pytest.approx(1.5 / np.sqrt(3.5))
    assert objective.monitor == "mae"


def test_log10_mae_is_in_original_units():
    targets = np.array([[1.0], [100.0]])
    objective = objective_of([[1.0], [1.0]], targets, target_transform="log10", standardize_target=False)
    assert objective.training_loss(batch_of(targets)).item() == pytest.approx(1.0)
    assert objective.metrics(batch_of(targets))["mae"].tolist() == pytest.approx([9, 90])


def test_several_targets_count_alike():
    targets = np.array([[0.0, 0.0], [2.0, 20.0]])  # deviations 1 and 10
    objective = objective_of([[0.0, 0.0], [0.0, 0.0]], targets)
    assert objective.training_loss(batch_of(targets)).item() == pytest.approx(1.0)
    assert objective.metrics(batch_of(targets))["mae"].tolist() == pytest.approx([5.5, 5.5])


def test_classes_use_cross_entropy():
    targets = np.array([[0.0], [1.0], [1.0]])
    logits = [[0.0, np.log(3)], [0.0, np.log(3)], [0.0, 0.0]]  # probabilities of class 1: 3/4, 3/4, 1/2
    objective = objective_of(logits, targets, model={"classification": True})
    metrics = objective.metrics(batch_of(targets))
    assert metrics["loss"].tolist() == pytest.approx(-np.log([1 / 4, 3 / 4, 1 / 2]))
    assert metrics["error"].tolist() == [1, 0, 1]  # a tie goes to the first class
    assert objective.training_loss(batch_of(targets)).item() == pytest.approx(-np.log([1 / 4, 3 / 4, 1 / 2]).mean())
    assert objective.monitor == "loss"


def test_low_precision_outputs_are_not_compared_in_low_precision():
    objective = objective_of([[3.0]] * 4, standardize_target=False)
    objective.network.outputs = torch.full((4, 1), 3.0, dtype=torch.bfloat16)
    targets = VALUES + 1 / 512  # lost in bf16
    assert objective.training_loss(batch_of(targets)).item() == pytest.approx(np.abs(targets - 3).mean(), rel=1e-6)


def test_baseline_predicts_the_training_mean():
    scaler = objective_of([[0.0]]).scaler
    assert baseline(scaler, VALUES, np.array([[3.0], [5.0]])) == pytest.approx(1.0)


def test_baseline_of_classes_predicts_their_frequencies():
    train = np.array([[0.0], [1.0], [1.0], [1.0]])
    scaler = objective_of([[0.0, 0.0]], train, model={"classification": True}).scaler
    expected = -(np.log(1 / 4) + np.log(3 / 4)) / 2
    assert baseline(scaler, train, np.array([[0.0], [1.0]])) == pytest.approx(expected)
