"""The optimizer and the schedule, means over crystals, and the weights that a history keeps."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from crysmm.runs.history import History, read_history
from crysmm.training.train import train
from crysmm.training.trainer import MeanOverCrystals, make_optimizer, make_scheduler


def parameters():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.Linear(4, 1))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_decay_pulls_at_matrices_only(make_config, optimizer):
    """Without gradients only the decay moves a weight."""
    network = parameters()
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    config = make_config(optimizer=optimizer, weight_decay=0.5, learning_rate=0.1)
    make_optimizer(config, network).step()
    for name, parameter in network.named_parameters():
        factor = 1 - 0.5 * 0.1 if name in ("0.weight", "3.weight") else 1
        torch.testing.assert_close(parameter, factor * before[name])


def test_frozen_parameters_are_left_out(make_config):
    network = parameters()
    network[0].requires_grad_(False)
    optimizer = make_optimizer(make_config(), network)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(p) for name, p in network.named_parameters() if not name.startswith("0."))


def learning_rates(config, steps):
    """The rate each step is made with."""
    optimizer = make_optimizer(config, parameters())
    scheduler = make_scheduler(config, optimizer, steps)
    rates = []
    for _ in range(sum(steps)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return rates


def test_a_rise_of_a_single_step_is_none(make_config):
    rates = learning_rates(make_config(learning_rate=0.01, warmup_fraction=0.1), [2] * 5)
    assert rates[0] == pytest.approx(0.01, rel=0.05)
    assert rates == sorted(rates, reverse=True)


def test_onecycle_rises_for_the_warmup_fraction_and_ends_near_zero(make_config):
    rates = learning_rates(make_config(learning_rate=0.01, warmup_fraction=0.25), [10, 11, 9, 10])
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) == 9
    assert rates[0] == pytest.approx(0.01 / 25)
    assert rates[-1] == pytest.approx(0.01 / 25 / 1e4)


def test_history_has_the_rate_of_the_last_step_of_an_epoch(make_config):
    config = make_config(epochs=2)
    result = train(config)
    n_steps = math.ceil(result.metrics["train"]["n"] / config.batch_size)
    rates = learning_rates(config, [n_steps, n_steps])
    history = read_history(result.folder / "history.csv")
    assert [row["learning_rate"] for row in history] == pytest.approx([rates[n_steps - 1], rates[-1]])


def test_multistep_falls_after_the_epochs_named(make_config):
    config = make_config(scheduler="multistep", milestones=(1, 3, 100), gamma=0.1, learning_rate=1.0)
    assert learning_rates(config, [2, 3, 1, 2]) == pytest.approx([1.0] * 2 + [0.1] * 4 + [0.01] * 2)


def test_without_schedule_the_rate_stays(make_config):
    assert set(learning_rates(make_config(scheduler="none", learning_rate=0.3), [2, 2])) == {0.3}


@pytest.mark.parametrize("scheduler", ["onecycle", "none"])
def test_sgd_keeps_the_momentum_it_was_given(make_config, scheduler):
    config = make_config(optimizer="sgd", momentum=0.4, scheduler=scheduler)
    optimizer = make_optimizer(config, parameters())
    make_scheduler(config, optimizer, [5])
    assert [group["momentum"] for group in optimizer.param_groups] == [0.4, 0.4]


def test_a_history_keeps_copies_of_the_best_weights():
    network = nn.Linear(2, 1)
    history = History()
    history.add({"epoch": 1}, 1.0, network)
    before = network.weight.detach().clone()
    nn.init.zeros_(network.weight)
    history.add({"epoch": 2}, 2.0, network)
    assert history.best_epoch == 1
    assert torch.equal(history.best_weights["weight"], before)


def test_a_share_without_crystals_does_not_count():
    """Whatever its mean is."""
    means = MeanOverCrystals()
    means.add("loss", torch.tensor(2.0), 3)
    means.add("loss", torch.tensor(5.0), 1)
    means.add("loss", torch.tensor(math.nan), 0)
    assert means.over(SimpleNamespace(sum=lambda values: values)) == {"loss": (2 * 3 + 5) / 4}
