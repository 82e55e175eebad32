"""The encoder's scores against scikit-learn's, and against loops."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from crysmm.config.pretraining import PretrainingConfig
from crysmm.objectives.pretraining import build_pretraining
from crysmm.objectives.quality import EncoderQuality
from crysmm.objectives.reconstruction import NO_PAIR

SYSTEMS = np.array([6, 6, 6, 6, 6, 5, 6, 6, 3, 4, 1, 1])


def make_objective(method, **settings):
    torch.manual_seed(0)
    model = {"name": "cgcnn", "node_features": 8, "conv_layers": 1}
    return build_pretraining(PretrainingConfig(model=model, method={"name": method, **settings})).double()


def evaluate(objective, *batches):
    quality = EncoderQuality(objective, sum(len(batch.n_atoms) for batch in batches))
    for batch in batches:
        quality.add(batch)
    return quality.result()


def clean_nodes(objective, batch):
    with torch.no_grad():
        return objective.eval().network(batch).nodes


def same_as_sklearn(scores, name, truth, predicted):
    assert scores[f"{name}_accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    majority = np.full(len(truth), np.bincount(truth).argmax())
    assert scores[f"{name}_accuracy_baseline"] == pytest.approx(accuracy_score(truth, majority))
    with warnings.catch_warnings(action="ignore"):  # of classes that are predicted and do not occur
        assert scores[f"{name}_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    expected = balanced_accuracy_score(truth, majority)
    assert scores[f"{name}_balanced_accuracy_baseline"] == pytest.approx(expected)


@pytest.mark.parametrize("method", ["crysae", "crysgnn"])
def test_connectivity_of_two_batches(make_case, method):
    objective, batches = make_objective(method), [make_case("SiO2", "Cu").batch, make_case("NaCl", "ZrO2").batch]
    scores = evaluate(objective, *batches)
    truth, predicted = [], []
    for batch in batches:
        grid = objective.network.terms()["connectivity"].grid(clean_nodes(objective, batch), batch)
        asked = grid.classes != NO_PAIR
        truth.append(grid.classes[asked])
        predicted.append(grid.scores.argmax(1)[asked])
    same_as_sklearn(scores, "connectivity", torch.cat(truth).numpy(), torch.cat(predicted).numpy())


def test_bond_lengths(make_case):
    objective, batch = make_objective("crysae"), make_case().batch
    truth = batch.bond_vectors.norm(dim=1).round().clamp(1, 5).long() - 1
    predicted = objective.network.terms()["bond_lengths"].logits(clean_nodes(objective, batch), batch)[0].argmax(1)
    same_as_sklearn(evaluate(objective, batch), "bond_lengths", truth.numpy(), predicted.numpy())


def test_space_groups_of_crystals_that_are_known(make_case):
    objective, batch = make_objective("crysgnn"), make_case().batch
    batch.space_groups[3] = 0
    pooled = torch.stack([nodes.mean(0) for nodes in clean_nodes(objective, batch).split(batch.n_atoms.tolist())])
    predicted = objective.network.terms()["space_group"].decoder(pooled).argmax(1) + 1
    known = batch.space_groups > 0
    same_as_sklearn(
        evaluate(objective, batch), "space_group", batch.space_groups[known].numpy(), predicted[known].numpy()
    )


def test_features_and_elements(make_case):
    objective, batch = make_objective("crysgnn"), make_case().batch
    term = objective.network.terms()["features"]
    scores = evaluate(objective, batch)
    right = (term.decoder(clean_nodes(objective, batch)) > 0) == (batch.atom_features > 0)
    assert scores["feature_accuracy"] == pytest.approx(right.double().mean().item())
    share = batch.atom_features.mean(0)
    assert scores["feature_accuracy_baseline"] == pytest.approx(torch.maximum(share, 1 - share).mean().item())
    oxygen = (batch.atomic_numbers == 8).double().mean().item()
    assert scores["element_accuracy_baseline"] == pytest.approx(oxygen)


def test_a_perfect_decoder_knows_every_element(make_case):
    """Embeddings are the features themselves: their logits say each bit."""
    objective, batch = make_objective("crysgnn"), make_case().batch
    objective.network.backbone.forward = lambda seen: (seen.atom_features, seen.atom_features)
    objective.network.decoders = torch.nn.ModuleDict({"features": objective.network.terms()["features"]})
    decoder = objective.network.terms()["features"].decoder = torch.nn.Linear(92, 92).double()
    with torch.no_grad():
        decoder.weight.copy_(100 * torch.eye(92))
        decoder.bias.fill_(-5)
    scores = evaluate(objective, batch)
    assert scores["feature_accuracy"] == 1
    assert scores["element_accuracy"] == 1


def test_hidden_atoms_are_evaluated_separately(make_case):
    """Seeing all of an atom's features, the decoder above is right; hidden, it says that there is no bit at all."""
    objective, batch = make_objective("crysgnn", mask_ratio=0.3), make_case().batch
    objective.network.backbone.forward = lambda seen: (seen.atom_features, seen.atom_features)
    objective.network.decoders = torch.nn.ModuleDict({"features": objective.network.terms()["features"]})
    decoder = objective.network.terms()["features"].decoder = torch.nn.Linear(92, 92).double()
    with torch.no_grad():
        decoder.weight.copy_(100 * torch.eye(92))
        decoder.bias.fill_(-5)
    scores = evaluate(objective, batch)
    hidden = objective.corrupt_reproducibly(batch)[0].hidden
    assert scores["element_accuracy"] == 1
    assert scores["hidden_feature_accuracy"] == pytest.approx(1 - batch.atom_features[hidden].mean().item())
    numbers = batch.atomic_numbers[hidden]
    assert scores["hidden_element_accuracy_baseline"] == pytest.approx(numbers.bincount().max().item() / len(numbers))


def test_distances_beside_those_seen(make_case):
    objective, batch = make_objective("crysae", distance_noise=0.1), make_case().batch
    scores = evaluate(objective, batch)
    seen = objective.corrupt_reproducibly(batch)[0].seen
    error = (batch.bond_vectors.norm(dim=1) - seen.bond_vectors.norm(dim=1)).abs().mean().item()
    assert scores["distance_error_baseline"] == pytest.approx(error)
    assert 0.07 < error < 0.09  # sqrt(2 / pi) of the deviation
    assert scores["distance_error"] != pytest.approx(error)


def test_purity_of_the_nearest(make_case):
    objective = make_objective("crysae")
    batches = [
        make_case("Cu", "Fe", "Si", "CdTe", "CsCl", "Mg").batch,
        make_case(*"NaCl SrTiO3 TiO2 SiO2 ZrO2 CuO".split()).batch,
    ]
    embed = objective.network.backbone.forward

    def stretched(seen):
        """Cubic crystals far from the others, but in the same directions."""
        nodes, graph = embed(seen)
        cubic = (seen.space_groups >= 195).repeat_interleave(seen.n_atoms)[:, None]
        return torch.where(cubic, 30 * nodes, nodes), graph

    objective.network.backbone.forward = stretched
    pooled = []
    for batch in batches:
        pooled += [nodes.mean(0).numpy() for nodes in clean_nodes(objective, batch).split(batch.n_atoms.tolist())]

    def share_of_the_same_system(distance, n_nearest):
        same = []
        for i in range(12):
            others = sorted((j for j in range(12) if j != i), key=lambda j: distance(pooled[i], pooled[j]))
            same += [SYSTEMS[j] == SYSTEMS[i] for j in others[:n_nearest]]
        return np.mean(same)

    def cosine(a, b):
        return -a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    purity = share_of_the_same_system(cosine, 2)  # a quarter of the others
    assert purity != share_of_the_same_system(lambda a, b: np.linalg.norm(a - b), 2)
    scores = evaluate(objective, *batches)
    assert scores["knn_purity"] == pytest.approx(purity)
    assert scores["knn_purity_baseline"] == pytest.approx(share_of_the_same_system(cosine, 11))


def test_of_many_crystals_every_second_is_compared(make_case, monkeypatch):
    monkeypatch.setattr("crysmm.objectives.quality.MOST_POOLED", 6)
    objective = make_objective("crysae")
    batches = [
        make_case("Cu", "Fe", "Si", "CdTe", "CsCl").batch,
        make_case(*"Mg NaCl SrTiO3 TiO2 SiO2 ZrO2 CuO".split()).batch,
    ]
    pooled = []
    for batch in batches:
        pooled += [nodes.mean(0).numpy() for nodes in clean_nodes(objective, batch).split(batch.n_atoms.tolist())]
    unit = np.stack([vector / np.linalg.norm(vector) for vector in pooled[::2]])
    alike = unit @ unit.T - 2 * np.eye(6)
    systems = SYSTEMS[::2]
    scores = evaluate(objective, *batches)
    assert scores["knn_purity"] == pytest.approx(np.mean(systems[alike.argmax(1)] == systems))
    pairs = (systems[:, None] == systems).sum() - 6
    assert scores["knn_purity_baseline"] == pytest.approx(pairs / 30)


def test_only_what_was_predicted_is_evaluated(make_case):
    batch = make_case().batch
    ae = evaluate(make_objective("crysae", feature_weight=0), batch)
    assert not any(name.startswith(("feature", "element", "hidden", "space_group", "distance")) for name in ae)
    gnn = evaluate(make_objective("crysgnn", connectivity_weight=0, space_group_weight=0), batch)
    assert not any(name.startswith(("bond", "connectivity", "space_group", "hidden", "distance")) for name in gnn)


@pytest.mark.parametrize("known", [False, True])
def test_one_crystal_or_no_symmetry(make_case, known):
    batch = make_case("Cu").batch
    if not known:
        batch.space_groups.zero_()
    scores = evaluate(make_objective("crysgnn"), batch)
    assert "knn_purity" not in scores
    assert ("space_group_accuracy" in scores) == known
    assert np.isfinite(list(scores.values())).all()


def test_evaluation_changes_nothing(make_case):
    objective, batch = make_objective("crysgnn", mask_ratio=0.2).train(), make_case().batch
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    state = torch.get_rng_state()
    assert evaluate(objective, batch) == evaluate(objective, batch)
    assert objective.network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())
