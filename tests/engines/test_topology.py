"""Every topology against sums written out edge by edge."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from crysmm.engines import memory
from crysmm.engines.blocked import BlockedGraph, Connectivity
from crysmm.engines.dgl import DGLTopology
from crysmm.engines.line_graph import BlockedLineGraph, incomplete_line_graph
from crysmm.engines.normalization import normalization
from crysmm.engines.topology import GatherTopology
from crysmm.graphs.order import stable_order

WIDTH = 3


@pytest.fixture
def connectivity():
    """Connect nine atoms with unequal degrees, a self-loop listed twice, a doubled edge and an atom without edges."""
    random = np.random.default_rng(5)
    source = np.r_[random.integers(0, 8, 30), 2, 2, 4, 4]
    destination = np.r_[random.integers(0, 8, 30), 2, 2, 5, 5]
    return Connectivity.sort(source, destination, 9)[0]


@pytest.fixture(params=["graph", "line graph", "incomplete line graph", "gather", "dgl", "dgl line graph"])
def topology(request, connectivity):
    """Return every implementation, with its edges as (source, destination) lists."""
    pairs = connectivity.triplets()
    ends = (connectivity.source, connectivity.destination)
    n_edges = len(connectivity.source)
    match request.param:
        case "graph":
            return BlockedGraph(connectivity, 9), *ends
        case "line graph":
            return BlockedLineGraph(connectivity), *pairs
        case "incomplete line graph":
            kept = pairs[0] != pairs[1]
            return incomplete_line_graph(connectivity, as_jarvis=True), pairs[0][kept], pairs[1][kept]
        case "gather":
            return GatherTopology(*ends, 9), *ends
        case "dgl":
            return DGLTopology.from_edges(*ends, 9), *ends
        case _:
            return DGLTopology.from_edges(*pairs, n_edges), *pairs


def random_rows(count, seed, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=generator).requires_grad_()


def sum_by_hand(edges, destination, n_nodes):
    rows = [sum((edges[e] for e in torch.where(destination == v)[0]), torch.zeros(WIDTH)) for v in range(n_nodes)]
    return torch.stack(rows)


def agree(found, expected, inputs):
    """Assert that values and gradients agree to 1e-10."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    for ours, theirs in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_triplets_are_all_pairs_at_an_atom(connectivity):
    first, second = (edges.tolist() for edges in connectivity.triplets())
    expected = {
        (e1, e2)
        for e1, atom in enumerate(connectivity.destination.tolist())
        for e2, other in enumerate(connectivity.source.tolist())
        if atom == other
    }
    assert set(zip(first, second, strict=True)) == expected
    assert len(first) == len(expected) == connectivity.n_triplets


@pytest.mark.parametrize("end", [9, 1 << 16, (1 << 16) + 1])
def test_stable_order_keeps_equal_keys_in_order(end):
    keys = np.random.default_rng(3).integers(0, end, 500)
    keys[::7] = end - 1
    assert stable_order(keys, end).tolist() == sorted(range(500), key=keys.tolist().__getitem__)


def test_ends(topology):
    graph, source, destination = topology
    nodes = random_rows(graph.n_nodes, 1)
    agree(graph.at_source(nodes), nodes[source], [nodes])
    agree(graph.at_destination(nodes), nodes[destination], [nodes])


def test_sum(topology):
    graph, _, destination = topology
    edges = random_rows(graph.n_edges, 2)
    agree(graph.sum(edges), sum_by_hand(edges, destination, graph.n_nodes), [edges])


def test_add(topology):
    graph, source, destination = topology
    first, second, edges = (
        random_rows(count, seed) for seed, count in enumerate((graph.n_nodes, graph.n_nodes, graph.n_edges))
    )
    weight = random_rows(first.shape[1], 9)[:, : edges.shape[1]]
    expected = first[source] + second[destination] + edges @ weight.T
    agree(graph.add(first, second, edges, weight), expected, [first, second, edges, weight])


def test_softmax(topology):
    graph, _, destination = topology
    scores = random_rows(graph.n_edges, 3)
    exponents = scores.exp()
    expected = exponents / sum_by_hand(exponents, destination, graph.n_nodes)[destination]
    agree(graph.softmax(scores), expected, [scores])


def test_gated_sum(topology):
    graph, source, destination = topology
    gates, values = random_rows(graph.n_edges, 4), random_rows(graph.n_nodes, 5)
    weights = 1 / (1 + (-gates).exp())
    expected = torch.cat((weights * values[source], weights), dim=1)
    expected = torch.stack([expected[destination == node].sum(0) for node in range(graph.n_nodes)])
    agree(torch.cat(graph.gated_sum(gates, values), dim=1), expected, [gates, values])


def test_weighted_sum(topology):
    graph, _, destination = topology
    weights, values = random_rows(graph.n_edges, 6), random_rows(graph.n_edges * WIDTH, 7)
    values_by_head = values.view(graph.n_edges, WIDTH, WIDTH)
    by_hand = torch.zeros(graph.n_nodes, WIDTH, dtype=torch.float64)
    for head in range(WIDTH):
        by_hand = by_hand + sum_by_hand(weights[:, head, None] * values_by_head[:, head], destination, graph.n_nodes)
    agree(graph.weighted_sum(weights, values_by_head), by_hand, [weights, values])


def gate_by_hand(topology, source, destination, edges, weight, values, norm=None):
    """Compute the updated edges and the means, edge by edge and by torch's own layers."""
    graph, first, second = topology
    gates = source[first] + destination[second] + edges @ weight.T
    opened = 1 / (1 + (-gates).exp())
    updated = edges if norm is None else edges + functional.silu(norm(gates))
    sums, weights = (sum_by_hand(rows, second, graph.n_nodes) for rows in (opened * values[first], opened))
    return updated, sums / (weights + 1e-6)


def gate_inputs(graph, seed):
    """Return random source, destination and value rows, and a weight."""
    nodes = [random_rows(graph.n_nodes, seed + place) for place in range(3)]
    return *nodes, random_rows(WIDTH, seed + 3)


@pytest.mark.parametrize("rows", [2048, 20, 1])
@pytest.mark.parametrize("kind", ["batch", "layer", None])
def test_gate(topology, monkeypatch, rows, kind):
    monkeypatch.setattr(memory, "ROWS_IN_CACHE", rows)
    graph, *_ = topology
    source, destination, values, weight = gate_inputs(graph, 1)
    edges = random_rows(graph.n_edges, 5)
    norm = None if kind is None else normalization(kind, WIDTH).double()
    inputs = [source, destination, edges, weight, values]
    of_updated = [edges] if norm is None else [*inputs[:4], *norm.parameters()]
    everything = inputs if norm is None else [*inputs, *norm.parameters()]
    cases = [
        (slice(None), everything),
        (slice(0, 1), of_updated),
        (slice(1, 2), inputs),
    ]
    for used, reached in cases:
        expected = gate_by_hand(topology, *inputs, norm)
        agree(torch.cat(graph.gate(*inputs, norm)[used]), torch.cat(expected[used]), reached)


@pytest.mark.parametrize("training", [True, False])
def test_successive_gates(topology, training, monkeypatch):
    monkeypatch.setattr(memory, "ROWS_IN_CACHE", 20)
    graph, *_ = topology
    layers = [(gate_inputs(graph, 10 * layer), normalization("batch", WIDTH).double()) for layer in range(3)]
    layers.append((gate_inputs(graph, 40), None))
    first_edges = random_rows(graph.n_edges, 50)
    parts = [first_edges, *(part for inputs, _ in layers for part in inputs)]

    def all_means(gate):
        edges, means = first_edges, []
        for (source, destination, values, weight), norm in layers:
            if norm is not None:
                norm.train(training)
            edges, mean = gate(source, destination, edges, weight, values, norm)
            means.append(mean)
        return means

    for used in (slice(None), slice(0, 2), slice(2, 3)):  # with fewer, some layers have no gradient
        reached = parts if used == slice(None) else [first_edges, parts[1], parts[2], parts[4]]
        ours = torch.cat(all_means(graph.gate)[used])
        agree(ours, torch.cat(all_means(partial(gate_by_hand, topology))[used]), reached)


def test_a_line_graph_goes_backward_once(connectivity):
    graph = BlockedLineGraph(connectivity)
    source, destination, values, weight = gate_inputs(graph, 1)
    edges = random_rows(graph.n_edges, 5)
    updated, *_ = graph.gate(source, destination, edges, weight, values, normalization("batch", WIDTH).double())
    updated.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="call the network again"):
        updated.sum().backward()


def test_nodes_without_edges_sum_to_zero():
    empty = np.zeros(0, dtype=np.int64)
    connectivity, _ = Connectivity.sort(empty, empty, 3)
    graph = BlockedGraph(connectivity, 3)
    assert torch.equal(graph.sum(torch.zeros(0, WIDTH)), torch.zeros(3, WIDTH))
    assert graph.softmax(torch.zeros(0, WIDTH)).shape == (0, WIDTH)
    assert torch.equal(graph.weighted_sum(torch.zeros(0, 2), torch.zeros(0, 2, WIDTH)), torch.zeros(3, WIDTH))
    graph = BlockedLineGraph(connectivity)
    none = torch.zeros(0, WIDTH)
    assert [rows.shape for rows in graph.gate(none, none, none, torch.ones(WIDTH, WIDTH), none)] == [(0, WIDTH)] * 2
