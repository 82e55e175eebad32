"""The loss and the metrics of learning properties, against numbers worked out by hand."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from crysmm.config import TrainingConfig
from crysmm.data.batch import labels_per_crystal
from crysmm.data.loader import BatchSampler, StoreDataset
from crysmm.data.scaler import TargetScaler
from crysmm.data.store import build_store
from crysmm.io.source import ReadingOptions
from crysmm.io.table import RecordsTable
from crysmm.models.networks import build_network
from crysmm.objectives.property import PropertyObjective, baseline, fit_weights

VALUES = np.array([[1.0], [2.0], [3.0], [6.0]])  # mean 3, population deviation sqrt(3.5)
NAN = float("nan")
GAPS = np.array([[1.0, 10.0], [3.0, NAN], [NAN, 30.0], [5.0, NAN], [7.0, 20.0]])  # 4 and 3 labels


@dataclass
class Labels:
    """The part of a batch that a loss reads."""

    targets: torch.Tensor
    labels_per_crystal: float | None


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
    return Labels(torch.from_numpy(targets), labels_per_crystal(targets))


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [("l1", (2 + 1 + 0 + 3) / 4), ("mse", (4 + 1 + 0 + 9) / 4), ("huber", (1.5 + 0.5 + 0 + 2.5) / 4)],
)
def test_criteria_without_standardization(criterion, expected):
    """Predicting 3 for everything; huber is quadratic up to 1."""
    objective = objective_of([[3.0]] * 4, criterion=criterion, standardize_target=False)
    assert objective.training_loss(batch_of()).item() == pytest.approx(expected)


def test_loss_is_of_standardized_targets_and_mae_in_original_units():
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


def with_gaps(outputs, weights=None, criterion="l1"):
    """An objective for ``GAPS`` in original units, trained and validated on all of them."""
    scaler = TargetScaler.fit(GAPS, range(5), TrainingConfig(standardize_target=False))
    return PropertyObjective(Answers(outputs), scaler, criterion, fit_weights(weights, GAPS, GAPS))


@pytest.mark.parametrize(
    ("weights", "criterion", "expected"),
    [
        (None, "l1", (1 + 3 + 5 + 7 + 10 + 30 + 20) / 7),
        (None, "mse", (1 + 9 + 25 + 49 + 100 + 900 + 400) / 7),
        (None, "huber", (0.5 + 2.5 + 4.5 + 6.5 + 9.5 + 29.5 + 19.5) / 7),
        ((3, 1), "l1", (1.5 * (1 + 3 + 5 + 7) + 0.5 * (10 + 30 + 20)) / 7),
        ((30, 10), "l1", (1.5 * (1 + 3 + 5 + 7) + 0.5 * (10 + 30 + 20)) / 7),
    ],
)
def test_loss_is_the_mean_over_the_labels_that_are_there(weights, criterion, expected):
    """Predicting 0 for everything."""
    objective = with_gaps([[0.0, 0.0]] * 5, weights, criterion)
    assert objective.training_loss(batch_of(GAPS)).item() == pytest.approx(expected)
    assert objective.metrics(batch_of(GAPS))["loss"].mean().item() == pytest.approx(expected)


def test_missing_labels_have_no_gradient():
    objective = with_gaps([[0.0, 0.0]] * 5)
    objective.network.outputs.requires_grad_()
    objective.training_loss(batch_of(GAPS)).backward()
    assert objective.network.outputs.grad.tolist() == np.where(np.isnan(GAPS), 0, np.float32(-1 / 7)).tolist()


def test_score_is_the_mean_over_targets_in_units_of_their_deviations():
    """Over batches of other sizes and labels, too: the training loop averages over crystals."""
    errors = np.array([[1.0, 4.0], [2.0, NAN], [NAN, 6.0], [3.0, NAN], [2.0, 5.0]])
    outputs = np.where(np.isnan(GAPS), 99.0, GAPS + np.nan_to_num(errors))
    objective = with_gaps(outputs)
    expected = (2 / np.sqrt(5) + 5 / np.std([10, 30, 20])) / 2
    assert objective.monitor == "mae_over_std"
    assert objective.metrics(batch_of(GAPS))["mae_over_std"].mean().item() == pytest.approx(expected)
    total = 0.0
    for part in (slice(0, 1), slice(1, 2), slice(2, 5)):
        objective.network.outputs = torch.tensor(outputs[part])
        metrics = objective.metrics(batch_of(GAPS[part]))
        total += metrics["mae_over_std"].sum().item() / 5
    assert total == pytest.approx(expected)


def test_a_target_that_is_constant_but_for_rounding_has_no_scale():
    targets = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]])
    assert np.std(targets[:, 0]) > 0
    weights = fit_weights(None, targets, targets)
    np.testing.assert_allclose(weights.score, [0.5, 0.5 / np.std([1, 2, 3])])


def test_baseline_of_several_targets_predicts_the_means_of_their_labels():
    scaler = with_gaps([[0.0, 0.0]]).scaler
    expected = ((3 + 1 + 1 + 3) / 4 / np.sqrt(5) + (10 + 10 + 0) / 3 / np.std([10, 30, 20])) / 2
    assert baseline(scaler, GAPS, GAPS) == pytest.approx(expected)
    # a target that no validation crystal has is not part of the score
    assert baseline(scaler, GAPS, GAPS[1:2]) == pytest.approx(1 / np.sqrt(5))


@pytest.mark.parametrize("criterion", ["l1", "mse", "huber"])
@pytest.mark.parametrize("n_targets", [1, 3])
def test_without_gaps_nothing_changes(criterion, n_targets):
    """Bit for bit: one target through the mask, and several with equal weights."""
    random = torch.Generator().manual_seed(0)
    outputs, targets = (
        torch.randn(33, n_targets, generator=random, dtype=dtype) for dtype in (torch.float32, torch.float64)
    )
    scaler = TargetScaler.fit(targets.numpy(), range(33), TrainingConfig())
    plain = {"l1": functional.l1_loss, "mse": functional.mse_loss, "huber": functional.huber_loss}[criterion]
    expected = plain(outputs, scaler.encode(targets).float(), reduction="none").mean(1)
    weights = fit_weights(None, targets.numpy(), targets.numpy())
    objective = PropertyObjective(Answers([[0.0]]), scaler, criterion, weights)
    for labels in (None, 1.0) if n_targets == 1 else (None,):
        batch = Labels(targets, labels)
        assert torch.equal(objective.label_losses(outputs, batch), expected)


@pytest.fixture
def labeled(crystals, tmp_path):
    """Twelve real crystals with a made-up gap, of which the first three have a modulus, too."""
    rows = [
        {"jid": name, "atoms": crystal.to_jarvis().to_dict(), "gap": number**0.5}
        | ({"K": 10.0 * number} if number < 3 else {})
        for number, (name, crystal) in enumerate(crystals.items())
    ]
    config = TrainingConfig(model={"name": "cgcnn", "conv_layers": 1, "node_features": 8, "fc_features": 8})
    source = RecordsTable(rows, ReadingOptions(target_key="gap,K"))
    return config, build_store(source, config.graph_settings(), cache_dir=tmp_path, progress=False)


def objective_for(config, store):
    scaler = TargetScaler.fit(store.targets, range(len(store)), config)
    torch.manual_seed(0)
    return PropertyObjective(build_network(config, 2), scaler, "l1", fit_weights(None, store.targets, store.targets))


def gradients(objective, loss):
    objective.zero_grad()
    loss.backward()
    return {name: weights.grad.clone() for name, weights in objective.named_parameters()}


def test_gradients_of_a_network_come_from_the_labels_alone(labeled):
    """Against a loop over the 15 labels of real crystals, each standardized on its own."""
    config, store = labeled
    objective, batch = objective_for(config, store), store.batch(range(12))
    found = gradients(objective, objective.training_loss(batch))
    outputs, loss, n_labels = objective.network(batch), 0.0, 0
    for column, known in enumerate((range(12), range(3))):
        labels = store.targets[known, column]
        for row, label in zip(known, (labels - labels.mean()) / labels.std(), strict=True):
            loss, n_labels = loss + (outputs[row, column] - label).abs(), n_labels + 1
    assert n_labels == 15
    for name, expected in gradients(objective, loss / n_labels).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)
        assert found[name].isfinite().all()


def test_processes_together_have_the_loss_of_one(labeled):
    """Three processes, whose parts have different numbers of labels; the norms see the same crystals throughout."""
    config, store = labeled
    objective = objective_for(config, store).eval()
    whole = objective.training_loss(store.batch(range(12)))
    parts = []
    for rank in range(3):
        (share,) = BatchSampler(range(12), store.n_triplets, 12, rank=rank, world_size=3)
        parts.append(objective.training_loss(StoreDataset(store)[share].batch) * share.weight / 3)
    torch.testing.assert_close(sum(parts), whole)
