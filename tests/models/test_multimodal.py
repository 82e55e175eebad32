"""Multimodal head against the published number of weights and the published formula."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crysmm.config.graph import GraphSettings
from crysmm.config.models import ALIGNNConfig, CGCNNConfig
from crysmm.data.batch import collate_crystals
from crysmm.io.inputs import open_source
from crysmm.models.backbone import Embedding
from crysmm.models.crysmmnet import MultimodalHead
from crysmm.models.networks import PropertyNetwork, build_backbone

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
WIDTH = 12


@pytest.fixture
def head():
    torch.manual_seed(0)
    return MultimodalHead(8, WIDTH, 2).double().eval()


def given(n, seed=0):
    rng = np.random.default_rng(seed)
    graph, texts = (torch.from_numpy(rng.normal(size=(n, width))) for width in (8, WIDTH))
    return Embedding(torch.zeros(0, 8), graph), texts


def test_with_alignn_and_matscibert_it_has_the_published_number_of_weights():
    backbone = build_backbone(ALIGNNConfig(), 92, 8.0, "blocked")
    network = PropertyNetwork(backbone, MultimodalHead(backbone.node_features, 768, 1))

    n_weights = sum(parameter.numel() for parameter in network.parameters())
    assert n_weights - network.head.no_text.numel() == 4_109_057


def test_forward_is_the_formula(head):
    embedding, texts = given(5)
    weights = {name: tensor.numpy() for name, tensor in head.state_dict().items()}

    def linear(rows, name):
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def project(rows, name):
        projected = linear(rows, f"{name}.projection")
        gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))(projected)
        total = projected + linear(gelu, f"{name}.branch.1")
        centered = total - total.mean(1, keepdims=True)
        normed = centered / np.sqrt((centered**2).mean(1, keepdims=True) + 1e-5)
        return normed * weights[f"{name}.norm.weight"] + weights[f"{name}.norm.bias"]

    both = np.concatenate([project(embedding.graph.numpy(), "graph"), project(texts.numpy(), "text")], axis=1)
    expected = linear(np.maximum(linear(both, "fusion.0"), 0), "output")
    np.testing.assert_allclose(head(embedding, texts).detach().numpy(), expected, rtol=1e-10)


def test_a_crystal_without_text_has_the_learned_vector_and_gives_clean_gradients(head):
    embedding, texts = given(4)
    texts[1] = torch.nan
    with torch.no_grad():
        head.no_text.copy_(torch.randn(64, dtype=torch.float64))
    outputs = head(embedding, texts)
    others = head(Embedding(embedding.nodes, embedding.graph[[0, 2, 3]]), texts[[0, 2, 3]])
    torch.testing.assert_close(outputs[[0, 2, 3]], others)
    outputs[1].sum().backward()
    assert head.no_text.grad.abs().sum() > 0
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert all(parameter.grad.abs().sum() == 0 for parameter in head.text.parameters())


def test_a_batch_of_one_and_a_batch_without_texts(head):
    embedding, texts = given(1)
    assert head(embedding, texts).shape == (1, 2)
    with pytest.raises(ValueError, match="no embeddings of texts"):
        head(embedding, None)


def test_a_network_reads_graphs_and_texts():
    source = open_source(SAMPLE_DATA, limit=6, needs_targets=False)
    crystals = [row.read().crystal for row in source.rows()]
    batch = collate_crystals(crystals, GraphSettings())
    torch.manual_seed(0)
    backbone = build_backbone(CGCNNConfig(), 92, 8.0, "blocked")
    network = PropertyNetwork(backbone, MultimodalHead(backbone.node_features, WIDTH, 1)).eval()
    texts = torch.randn(6, WIDTH)
    first = network(replace(batch, texts=texts))
    assert first.shape == (6, 1)
    assert not torch.allclose(first, network(replace(batch, texts=texts.flip(0))))
    assert not torch.allclose(first, network(replace(batch, texts=torch.full((6, WIDTH), torch.nan))))
    assert replace(batch, texts=texts).double().texts.dtype == torch.float64
