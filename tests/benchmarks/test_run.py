"""What is timed beside the peers, made small; the peers themselves are not installed here."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import ours, run
from benchmarks.run import ROWS, Inputs
from crysmm.config import TrainingConfig
from crysmm.io.inputs import open_source

CHECKOUT = Path(__file__).parents[2]
QUICK = {"data": None, "target_key": None, "quick": True, "crystals": 70, "predicted": 5}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs.make(tmp_path_factory.mktemp("inputs"), Namespace(**QUICK))


def test_all_processes_have_the_same_crystals(inputs):
    def volumes(name):
        records = [row.read() for row in open_source(inputs.folder / name).rows()]
        return {record.id.removesuffix(".vasp"): round(record.crystal.volume, 6) for record in records}

    everything, batch, predicted = map(volumes, ("all.jsonl", "batch.jsonl", "poscar"))
    assert (len(everything), len(batch), len(predicted)) == (inputs.n_crystals, 64, inputs.n_predicted) == (70, 64, 5)
    assert batch.items() <= everything.items()
    assert predicted.items() <= everything.items()


def test_given_crystals_are_used_as_they_are(tmp_path):
    made = Inputs.make(tmp_path, Namespace(**QUICK | {"data": run.SAMPLE_DATA, "crystals": 66, "quick": False}))
    given = [row.read() for row in open_source(run.SAMPLE_DATA, limit=66).rows()]
    used = [row.read() for row in open_source(made.folder / "all.jsonl").rows()]
    assert [row.targets for row in used] == [row.targets for row in given]
    assert [row.crystal.lattice.tolist() for row in used] == [row.crystal.lattice.tolist() for row in given]


def test_ratios_are_of_one_turn():
    names = {name for row in ROWS for name in (row.ours, row.peer)}
    everything = dict.fromkeys((*(row.figure for row in ROWS), "build_merged", "computed_triplets"), 1.0)
    figures = {name: [dict(everything), dict(everything), dict(everything)] for name in names}
    for turn, (mine, theirs) in enumerate(((1, 7), (100, 800), (10, 60))):  # the machine's pace changes
        figures["ours fp32"][turn]["step"], figures["dgl"][turn]["step"] = mine, theirs
    table = run.table(figures).splitlines()
    assert table[2] == "| ALIGNN training step, fp32 | alignn on DGL, as shipped | 10 | 60 | 7.0 | 5 |"
    assert len(table) == len(ROWS) + 4


def test_a_process_that_fails_ends_it_with_its_last_words():
    with pytest.raises(SystemExit, match="ended with 3") as error:
        run.call([sys.executable, "-c", "import sys; print('no room', file=sys.stderr); sys.exit(3)"])
    assert "no room" in str(error.value)


def test_last_line_is_read_and_glibc_told(monkeypatch):
    program = "import os, json; print('noise'); print(json.dumps({'kept': len(os.environ.get('GLIBC_TUNABLES', ''))}))"
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert run.printed([sys.executable, "-c", program]) == {"kept": 0}
    assert run.printed([sys.executable, "-c", program], keeping=True) == {"kept": len(run.KEEPING)}


def test_our_step_and_epochs(inputs):
    config = TrainingConfig.model_validate({
        "root_dir": inputs.folder / "batch.jsonl", "device": "cpu", "precision": "32", "jobs": 1,
        "model": {"name": "alignn", "alignn_layers": 1, "gcn_layers": 1, "hidden_features": 8, "embedding_features": 8},
    })  # fmt: skip
    figures = ours.training_steps(config, 1)
    assert figures["triplets"] == sum(
        n * p * q for n, p, q in ours.collate_crystals(
            [row.read().crystal for row in open_source(inputs.folder / "batch.jsonl").rows()], config.graph_settings()
        ).connectivity.blocks
    )  # fmt: skip
    assert all(figures[name] > 0 for name in ("build", "build_merged", "step", "peak", "inference"))
    assert 0 < figures["computed_triplets"] < figures["triplets"]
    assert figures["batches"] == 1
    in_parts = ours.training_steps(config.model_copy(update={"max_triplets": figures["triplets"] // 5}), 1)
    assert in_parts["triplets"] == figures["triplets"]
    assert in_parts["batches"] >= 5
    small = config.model_copy(
        update={"model": TrainingConfig.model_validate({"root_dir": "x", "model": "cgcnn"}).model}
    )
    epochs = ours.cgcnn_epochs(small.model_copy(update={"root_dir": inputs.folder / "all.jsonl"}), 70)
    assert epochs["first_epoch"] > epochs["epoch"] > 0


def test_is_a_script_and_a_module():
    for command in (["benchmarks/run.py"], ["-m", "benchmarks.run"]):
        done = subprocess.run([sys.executable, *command, "--help"], cwd=CHECKOUT, capture_output=True, text=True)
        assert "--quick" in done.stdout, done.stderr


def test_peers_are_plain_scripts():
    for script in (CHECKOUT / "benchmarks" / "peers").glob("*.py"):
        assert "crysmm" not in script.read_text(), f"{script.name} would need this project in the peer's environment"
