import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from crysmm.elements import feature_table
from crysmm.errors import InputError, MissingDependencyError, StructureError
from crysmm.graphs.dgl import crystal_graph, import_dgl, line_graph

pytestmark = pytest.mark.usefixtures("dgl")

STRATEGIES = ["k-nearest", "cgcnn", "radius"]
REPOSITORY = Path(__file__).parents[2]


def run_python(code, environment):
    """Run code in a fresh interpreter that finds this package, with only the given environment."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bond_vectors_join_the_atoms_and_images(crystal, strategy):
    graph = crystal_graph(crystal, neighbor_strategy=strategy, cutoff=6.0)
    source, destination = (index.numpy() for index in graph.edges())
    steps = crystal.frac_coords[destination] + graph.edata["images"].numpy() - crystal.frac_coords[source]
    np.testing.assert_allclose(graph.edata["r"].numpy(), steps @ crystal.lattice, atol=2e-6)


def test_features_and_types(crystals):
    graph = crystal_graph(crystals["SrTiO3"])
    assert graph.ndata["Z"].tolist() == [38, 22, 8, 8, 8]
    assert graph.ndata["Z"].dtype == torch.int64
    expected = feature_table("cgcnn")[[38, 22, 8, 8, 8]]
    np.testing.assert_array_equal(graph.ndata["atom_features"].numpy(), expected)
    np.testing.assert_allclose(graph.ndata["frac_coords"].numpy(), crystals["SrTiO3"].frac_coords)
    for features in (graph.ndata["atom_features"], graph.ndata["frac_coords"], graph.edata["r"]):
        assert features.dtype == torch.float32
    assert crystal_graph(crystals["Cu"], atom_features="cfid").ndata["atom_features"].shape == (1, 438)


def test_structures_of_other_packages_give_the_same_graph(crystals):
    ase, pymatgen = pytest.importorskip("ase"), pytest.importorskip("pymatgen.core")
    crystal = crystals["ZrO2"]
    expected = crystal_graph(crystal)
    for structure in (
        crystal.to_jarvis(),
        ase.Atoms(crystal.elements, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True),
        pymatgen.Structure(crystal.lattice, crystal.elements, crystal.frac_coords),
    ):
        graph = crystal_graph(structure)
        assert torch.equal(torch.stack(graph.edges()), torch.stack(expected.edges()))
        torch.testing.assert_close(graph.edata["r"], expected.edata["r"])
        torch.testing.assert_close(graph.ndata["Z"], expected.ndata["Z"])


@pytest.mark.parametrize("use_canonize", [True, False])
def test_as_jarvis_gives_the_graphs_of_jarvis(crystal, use_canonize):
    from jarvis.core.graphs import Graph

    def bonds_in_order(graph, angles):
        """Per bond its atoms and image; its vector and the sums of its cosines with the bonds before and after."""
        source, destination = (index.numpy() for index in graph.edges())
        vectors = graph.edata["r"].double().numpy()
        shift = crystal.frac_coords[source] - crystal.frac_coords[destination]
        image = np.round(vectors @ np.linalg.inv(crystal.lattice) + shift).astype(int)
        first, second = angles.edges()
        cosines = angles.edata["h"].double()
        before = torch.zeros(len(source), dtype=torch.float64).index_add(0, second, cosines)
        after = torch.zeros(len(source), dtype=torch.float64).index_add(0, first, cosines)
        numbers = np.column_stack((source, destination, image))
        order = np.lexsort(numbers.T)
        return numbers[order], np.column_stack((vectors, before, after))[order]

    graph = crystal_graph(crystal, as_jarvis=True, use_canonize=use_canonize)
    angles = line_graph(graph, as_jarvis=True)
    their_graph, their_angles = Graph.atom_dgl_multigraph(crystal.to_jarvis(), use_canonize=use_canonize)
    assert angles.num_edges() == their_angles.num_edges()
    bonds, values = bonds_in_order(graph, angles)
    their_bonds, their_values = bonds_in_order(their_graph, their_angles)
    np.testing.assert_array_equal(bonds, their_bonds)
    np.testing.assert_allclose(values, their_values, atol=1e-4)  # JARVIS rounds the lattice to 5 decimals


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_line_graph_as_jarvis_equals_that_of_dgl_edge_for_edge(crystal, strategy):
    from jarvis.core.graphs import compute_bond_cosines

    graph = crystal_graph(crystal, neighbor_strategy=strategy, cutoff=4.5, as_jarvis=strategy == "k-nearest")
    expected = graph.line_graph(shared=True)
    expected.apply_edges(compute_bond_cosines)
    angles = line_graph(graph, as_jarvis=True)
    assert torch.equal(torch.stack(angles.edges()), torch.stack(expected.edges()))
    torch.testing.assert_close(angles.edata["h"], expected.edata["h"], rtol=0, atol=1e-6)
    assert torch.equal(angles.ndata["r"], expected.ndata["r"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_line_graph_joins_every_bond_with_all_that_follow(crystal, strategy):
    graph = crystal_graph(crystal, neighbor_strategy=strategy, cutoff=4.5)
    source, destination = graph.edges()
    first, second = torch.nonzero(destination[:, None] == source[None], as_tuple=True)
    angles = line_graph(graph)
    assert torch.equal(torch.stack(angles.edges()), torch.stack((first, second)))
    to_itself = (first == second).sum()
    assert to_itself == (source == destination).sum()
    assert line_graph(graph, as_jarvis=True).num_edges() == angles.num_edges() - to_itself


@pytest.mark.parametrize("as_jarvis", [False, True])
def test_long_bonds_have_no_angles_with_a_triplet_cutoff(crystals, as_jarvis):
    graph = crystal_graph(crystals["SiO2"], as_jarvis=as_jarvis)
    first, second = line_graph(graph, as_jarvis=as_jarvis).edges()
    lengths = torch.linalg.vector_norm(graph.edata["r"], dim=1)
    kept = (lengths[first] <= 3) & (lengths[second] <= 3)
    assert 0 < kept.sum() < len(kept)
    found = torch.stack(line_graph(graph, as_jarvis=as_jarvis, triplet_cutoff=3.0).edges())
    assert torch.equal(found, torch.stack((first[kept], second[kept])))


def test_cosines_of_known_angles(crystals):
    def nearest_cosines(name, cutoff):
        return line_graph(crystal_graph(crystals[name], neighbor_strategy="radius", cutoff=cutoff)).edata["h"]

    tetrahedral = nearest_cosines("Si", 2.5)
    assert sorted(set(tetrahedral.numpy().round(4).tolist())) == pytest.approx([-1 / 3, 1.0], abs=1e-4)
    octahedral = nearest_cosines("NaCl", 3.0)
    assert {round(cosine) for cosine in octahedral.tolist()} == {-1, 0, 1}
    assert octahedral.abs().max() <= 1


def test_self_image_pair_is_straight(crystals):
    angles = line_graph(crystal_graph(crystals["Cu"]))
    first, second = angles.edges()
    torch.testing.assert_close(angles.edata["h"][first == second], -torch.ones(12))


def test_line_graph_of_a_batch_is_the_batch_of_line_graphs(crystals, dgl):
    graphs = [crystal_graph(crystals[name]) for name in ("Si", "Cu", "SiO2")]
    isolated = crystal_graph(crystals["CsCl"], neighbor_strategy="cgcnn", cutoff=1.0)
    graphs.insert(1, isolated)
    angles, expected = line_graph(dgl.batch(graphs)), dgl.batch([line_graph(graph) for graph in graphs])
    assert torch.equal(torch.stack(angles.edges()), torch.stack(expected.edges()))
    assert torch.equal(angles.edata["h"], expected.edata["h"])
    assert torch.equal(angles.batch_num_nodes(), expected.batch_num_nodes())
    assert torch.equal(angles.batch_num_edges(), expected.batch_num_edges())


def test_atoms_without_neighbors_stay(crystals):
    graph = crystal_graph(crystals["CsCl"], neighbor_strategy="radius", cutoff=3.0)
    angles = line_graph(graph)
    assert (graph.num_nodes(), graph.num_edges(), angles.num_nodes(), angles.num_edges()) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"neighbor_strategy": "voronoi"}, "neighbor_strategy: .*k-nearest.*got 'voronoi'"),
        ({"cutoff": -1.0}, "^cutoff: .*got -1"),
        ({"max_neighbors": 0}, "max_neighbors: .*got 0"),
        ({"as_jarvis": True, "neighbor_strategy": "radius"}, "as_jarvis: needs .* k-nearest, got radius$"),
        ({"atom_features": "magpie"}, "atom_features: .*cgcnn.*got 'magpie'"),
    ],
)
def test_wrong_keywords_are_named(crystals, keywords, message):
    with pytest.raises(InputError, match=message):
        crystal_graph(crystals["Cu"], **keywords)


def test_unusable_structure_is_refused():
    with pytest.raises(StructureError, match="unknown element 'Xx'"):
        crystal_graph({"lattice_mat": np.eye(3), "frac_coords": [[0, 0, 0]], "elements": ["Xx"]})


def test_dgl_is_imported_late_and_writes_nothing_into_the_home_folder(tmp_path):
    code = """
import os, sys
import crysmm, crysmm.graphs.dgl, crysmm.graphs.neighbors
assert "dgl" not in sys.modules
from crysmm import Crystal, crystal_graph, line_graph
silicon = Crystal.from_arrays([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]], [[0, 0, 0], [.25, .25, .25]], ["Si"] * 2)
line_graph(crystal_graph(silicon.to_jarvis()))
print(os.environ["DGLBACKEND"])
"""
    finished = run_python(code, {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)})
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "pytorch\n"
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("error", ["ImportError", "FileNotFoundError"])
def test_dgl_that_does_not_load_is_reported_with_the_remedy(tmp_path, monkeypatch, error):
    (tmp_path / "dgl").mkdir()
    (tmp_path / "dgl" / "__init__.py").write_text(f"raise {error}('graphbolt is missing')")
    monkeypatch.delitem(sys.modules, "dgl")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match="graphbolt is missing") as raised:
        import_dgl()
    assert 'pip install "dgl>=1.1.3,<2" packaging' in str(raised.value)
    assert "3.11" in str(raised.value)
