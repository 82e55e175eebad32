"""A teacher's embeddings: what a direct forward pass gives, for any rows in any order, computed once."""

import pickle

import numpy as np
import pytest
import torch

from crysmm.config import TrainingConfig
from crysmm.data import atom_embeddings
from crysmm.data.batch import collate_crystals
from crysmm.data.loader import BatchSampler, make_loader
from crysmm.data.store import build_store
from crysmm.errors import InputError
from crysmm.io.inputs import source_from_records
from crysmm.models.networks import build_backbone
from crysmm.training import teacher as module
from crysmm.training.teacher import build_embeddings

TEACHERS = {
    "cgcnn": {"name": "cgcnn", "conv_layers": 2, "node_features": 6},
    "alignn": {
        "name": "alignn", "alignn_layers": 1, "gcn_layers": 1, "hidden_features": 6, "embedding_features": 8,
        "edge_input_features": 8, "triplet_input_features": 8,
    },
}  # fmt: skip
SHA = "0" * 64


def source_of(crystals, names, shift=0.0, **options):
    return source_from_records(
        [
            {
                "id": name,
                "volume": crystals[name].volume,
                "lattice_mat": crystals[name].lattice.tolist(),
                "frac_coords": (
                    crystals[name].frac_coords + shift * (np.arange(len(crystals[name])) == 0)[:, None]
                ).tolist(),
                "elements": crystals[name].elements,
            }
            for name in names
        ],
        **({"needs_targets": False} | options),
    )


@pytest.fixture(scope="module")
def source(crystals):
    """All of the crystals, two of which have one atom."""
    return source_of(crystals, crystals)


@pytest.fixture(params=TEACHERS)
def config(request):
    return TrainingConfig(model=TEACHERS[request.param])


@pytest.fixture
def store(source, config, tmp_path):
    return build_store(source, config.graph_settings(), cache_dir=tmp_path, jobs=1, progress=False)


@pytest.fixture
def teacher(config, crystals):
    """In training mode, its batch norms far from where they began."""
    torch.manual_seed(0)
    backbone = build_backbone(config.model, 92, config.cutoff)
    with torch.no_grad():
        for _ in range(20):
            backbone(collate_crystals(list(crystals.values()), config.graph_settings()))
    return backbone


@pytest.fixture
def embed(store, config, teacher, tmp_path):
    """A function that gives the embeddings, made or found."""

    def build(sha=SHA, store=store, model=config.model):
        return build_embeddings(store, teacher, model, sha, cache_dir=tmp_path, progress=False)

    return build


def direct(teacher, config, crystals, names):
    """Each crystal embedded alone, by the backbone itself."""
    teacher.eval()
    parts = []
    for name in names:
        with torch.no_grad():
            nodes = teacher(collate_crystals([crystals[name]], config.graph_settings())).nodes.numpy()
        parts.append(nodes / np.sqrt((nodes**2).sum(1, keepdims=True)))
    return np.concatenate(parts)


@pytest.mark.parametrize("crystals_a_part", [5, 8192])
def test_rows_in_any_order(embed, store, config, teacher, crystals, monkeypatch, crystals_a_part):
    monkeypatch.setattr(atom_embeddings, "CRYSTALS_A_PART", crystals_a_part)
    embeddings = embed()
    everything = np.random.default_rng(0).permutation(len(store)).tolist()
    for rows in (everything, everything[:4], [3], [0], [0, 1], [11, 0, 11]):
        expected = direct(teacher, config, crystals, [store.ids[row] for row in rows])
        found = embeddings.take(rows)
        assert found.dtype == np.float32
        assert found.shape == (sum(store.n_atoms[row] for row in rows), 6)
        assert found == pytest.approx(expected, abs=1e-5)
    assert len(np.unique(expected.round(3), axis=0)) > 1


def test_batches_are_bounded_by_memory(embed, store, config, teacher, crystals, monkeypatch):
    monkeypatch.setattr(module, "BATCH_MEMORY", 1)
    expected = direct(teacher, config, crystals, store.ids)
    sizes = []
    forward = type(teacher).forward
    monkeypatch.setattr(type(teacher), "forward", lambda self, b: (sizes.append(len(b)), forward(self, b))[1])
    assert embed().take(range(len(store))) == pytest.approx(expected, abs=1e-5)
    assert sizes == [1] * len(store)


def test_the_teacher_is_left_as_it_is(embed, teacher):
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    embed()
    assert teacher.training
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())


def forbid_forward(monkeypatch, teacher, after=0):
    """The backbone is interrupted after so many batches."""
    forward, calls = type(teacher).forward, []

    def interrupted(self, batch):
        calls.append(len(batch))
        if len(calls) > after:
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(type(teacher), "forward", interrupted)
    return calls


def test_they_are_computed_once(embed, teacher, monkeypatch):
    expected = embed().take([2, 5])
    forbid_forward(monkeypatch, teacher)
    assert np.array_equal(embed().take([2, 5]), expected)


def test_a_stopped_computation_goes_on(embed, store, teacher, config, crystals, monkeypatch):
    monkeypatch.setattr(atom_embeddings, "CRYSTALS_A_PART", 5)
    with monkeypatch.context() as patch:
        forbid_forward(patch, teacher, after=1)
        with pytest.raises(KeyboardInterrupt):
            embed()
    with monkeypatch.context() as patch:
        calls = forbid_forward(patch, teacher, after=2)
        embeddings = embed()
    assert calls == [5, 2]
    expected = direct(teacher, config, crystals, store.ids)
    assert embeddings.take(range(len(store))) == pytest.approx(expected, abs=1e-5)
    assert not list(embeddings.folder.glob(".*"))


def test_a_damaged_part_is_made_again(embed):
    embeddings = embed()
    expected = embeddings.take([4])
    written = embeddings.folder.joinpath("part-00000.npy").read_bytes()
    garbled = written[:200] + b"\xff" * 100 + written[300:]
    for damaged in (b"", written[:-1000], garbled):
        embeddings.folder.joinpath("part-00000.npy").write_bytes(damaged)
        assert np.array_equal(embed().take([4]), expected)


def test_other_weights_settings_or_crystals_have_other_embeddings(
    embed, source, config, tmp_path, monkeypatch, teacher
):
    folder = embed().folder
    closer = config.graph_settings().model_copy(update={"max_neighbors": 3})
    other_store = build_store(source, closer, cache_dir=tmp_path, jobs=1, progress=False)
    other_model = config.model.model_copy(update={"link": "log"})
    others = [embed(sha="1" * 64), embed(store=other_store), embed(model=other_model)]
    assert len({folder, *(other.folder for other in others)}) == 4


def test_every_property_of_the_same_structures_finds_the_same(embed, crystals, config, tmp_path):
    def folder(**changes):
        source = source_of(crystals, crystals, **changes)
        return embed(
            store=build_store(source, config.graph_settings(), cache_dir=tmp_path, jobs=1, progress=False)
        ).folder

    assert folder(needs_targets=True, target_key="volume") == embed().folder
    assert folder(shift=0.001) != embed().folder


def test_another_process_reads_them(embed):
    embeddings = embed()
    expected = embeddings.take([1, 7])
    sent = pickle.dumps(embeddings)
    assert len(sent) < 2000
    assert np.array_equal(pickle.loads(sent).take([1, 7]), expected)  # noqa: S301


@pytest.fixture
def student_store(crystals, config, tmp_path):
    """Three of the crystals in another order, on other graphs."""
    settings = config.graph_settings().model_copy(update={"max_neighbors": 4})
    few = source_of(crystals, ["SiO2", "Cu", "TiO2"])
    return build_store(few, settings, cache_dir=tmp_path, jobs=1, progress=False)


def test_rows_of_another_store_are_matched_by_id(embed, store, student_store, crystals, config, teacher):
    matched = embed().matched(store, student_store, [0, 1, 2])
    expected = direct(teacher, config, crystals, ["TiO2", "SiO2"])
    assert matched.take([2, 0]) == pytest.approx(expected, abs=1e-5)


def test_a_row_the_teacher_lacks_is_named(embed, store, student_store, tmp_path):
    embeddings = embed(store=student_store)
    row_of = {name: row for row, name in enumerate(store.ids)}
    assert embeddings.matched(student_store, store, [row_of["Cu"]]).take([row_of["Cu"]]).shape == (1, 6)
    with pytest.raises(InputError, match="the teacher's graphs lack NaCl and 1 others; leave it out of the input"):
        embeddings.matched(student_store, store, [row_of["Cu"], row_of["NaCl"], row_of["Si"]])


def test_a_crystal_too_large_for_the_teacher_is_named(embed, monkeypatch):
    monkeypatch.setattr(module, "memory_limit", lambda device: 1000)
    with pytest.raises(
        InputError, match=r"is too large for the teacher: its \d+ atoms need about .* there are 1e\+03 B"
    ):
        embed()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loader_puts_them_into_batches(embed, store, num_workers):
    embeddings = embed()
    sampler = BatchSampler(range(len(store)), store.n_triplets, 5, seed=0)
    for share in make_loader(store, sampler, embeddings=embeddings, num_workers=num_workers):
        assert share.batch.teacher_nodes.dtype == torch.float32
        assert np.array_equal(share.batch.teacher_nodes.numpy(), embeddings.take(share.rows))
        assert share.batch.to("cpu").double().teacher_nodes.dtype == torch.float64
    assert next(iter(make_loader(store, sampler))).batch.teacher_nodes is None
