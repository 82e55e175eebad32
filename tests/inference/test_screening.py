"""Tables of many predictions: the same after a stop as in one go, and nothing left over."""

import csv
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas
import pytest

import crysmm.inference.predictor
import crysmm.inference.screening
from crysmm.cli.main import main
from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError
from crysmm.inference.predictor import Predictor, load
from crysmm.inference.screening import ShardMaker, open_shards, screen
from crysmm.inference.selection import Selection
from crysmm.io.inputs import source_from_files
from crysmm.io.table import crystal_row
from crysmm.models.networks import PropertyNetwork
from tests import forked

SAMPLE_FILE = Path(__file__).parents[2] / "examples" / "sample_data" / "mp-149.vasp"
Save = Callable[..., PropertyNetwork]


def grown(crystals: dict[str, Crystal], count: int) -> list[Crystal]:
    """The crystals in turn, each a bit larger than the one before."""
    some = list(crystals.values())
    cells = [some[number % len(some)] for number in range(count)]
    return [replace(cell, lattice=(1 + 1e-4 * number) * cell.lattice) for number, cell in enumerate(cells)]


def write_input(path: Path, structures: list[Crystal]) -> None:
    """A table of structures, the second of which cannot be read."""
    rows = [crystal_row(f"made-{number}", {}, crystal) for number, crystal in enumerate(structures)]
    rows[1]["elements"] = ["Xx"] * len(rows[1]["elements"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def stopped_after(n_batches: int) -> Iterator[None]:
    """Lets Ctrl-C arrive in the block, in the batch after so many."""
    make_batch, left = crysmm.inference.predictor.make_batch, iter(range(n_batches))

    def stopping(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return make_batch(*arguments, **options)

    with patch.object(crysmm.inference.predictor, "make_batch", stopping):
        yield


@pytest.fixture
def predictor(tmp_path: Path, save_small_model: Save) -> Predictor:
    """A small model; its target is K_VRH."""
    save_small_model(tmp_path / "model")
    return load(tmp_path / "model", device="cpu")


@pytest.fixture
def data(tmp_path: Path, crystals: dict[str, Crystal], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty-two rows, in shards of four."""
    monkeypatch.setattr(crysmm.inference.screening, "ROWS_PER_SHARD", 4)
    write_input(tmp_path / "in.jsonl", grown(crystals, 22))
    return tmp_path / "in.jsonl"


@pytest.fixture
def run(predictor: Predictor, data: Path, tmp_path: Path) -> Callable[..., Any]:
    """Screens the rows two at a time; gives the summary."""

    def run(output: str, **options: Any) -> Any:
        options = {"batch_size": 2, "progress": False, **options}
        return screen(options.pop("predictor", predictor), data, tmp_path / output, **options)

    return run


def test_numbers_of_shards_are_those_of_the_model(
    run: Callable[..., Any], predictor: Predictor, crystals: dict[str, Crystal], tmp_path: Path
) -> None:
    summary = run("out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"made-{number}" for number in range(22)]
    expected = predictor.predict(grown(crystals, 22))[:, 0]
    found = [float(row["prediction"] or "nan") for row in rows]
    np.testing.assert_allclose(np.delete(found, 1), np.delete(expected, 1), rtol=1e-12)
    assert "unknown element 'Xx'" in rows[1]["reason"]
    assert (summary.n_predicted, summary.n_failed, summary.failures[0].id) == (21, 1, "made-1")
    assert summary.unseen == {"Fe": 1, "Cd": 2, "Te": 2, "Cs": 2, "Mg": 2, "Sr": 2, "Ti": 4, "Zr": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "model", "out.csv"]


def test_structures_in_memory(predictor: Predictor, crystals: dict[str, Crystal], tmp_path: Path) -> None:
    """A list or any other iterable; a structure that cannot be read is a line of the table."""
    structures = [*crystals.values(), {"lattice_mat": "cubic"}]
    summary = screen(predictor, iter(structures), tmp_path / "out.csv", progress=False)
    assert summary.n_predicted == len(crystals)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(map(str, range(len(structures))))
    expected = predictor.predict(list(crystals.values()))[:, 0]
    np.testing.assert_allclose([float(row["prediction"]) for row in rows[:-1]], expected, rtol=1e-5)
    assert rows[-1]["prediction"] == ""
    by_path = screen(tmp_path / "model", crystals.values(), tmp_path / "again.csv", progress=False)
    assert by_path.n_predicted == len(crystals)


def test_parquet_has_the_cells_of_the_csv_file_as_numbers(run: Callable[..., Any], tmp_path: Path) -> None:
    assert run("out.csv") == run("out.parquet")
    assert run("out.parquet").n_kept == 22  # over the one that is there
    found, expected = (
        pandas.read_parquet(tmp_path / "out.parquet"),
        pandas.read_csv(tmp_path / "out.csv", float_precision="round_trip"),
    )
    assert list(found) == list(expected)
    for name in expected:
        if name in ("id", "domain", "unit", "reason", "note"):
            assert found[name].tolist() == expected[name].fillna("").tolist()
        else:
            np.testing.assert_array_equal(found[name], expected[name])
    with (tmp_path / "else.parquet").open("w") as file:
        file.write("not a table")
    with pytest.raises(InputError, match="is there and is no table of predictions"):
        run("else.parquet")


@pytest.mark.parametrize("rules", [["K_VRH > 129"], ["highest 5 K_VRH", "K_VRH < {median}"]])
def test_rows_are_kept_as_if_chosen_from_the_whole_table(
    rules: list[str], run: Callable[..., Any], tmp_path: Path
) -> None:
    run("all.csv")
    table = pandas.read_csv(tmp_path / "all.csv")
    median = float(table["prediction"].median())
    summary = run("out.csv", keep=[rule.format(median=median) for rule in rules])
    if len(rules) == 1:
        expected = table[table["prediction"] > 129]
    else:
        expected = table[table["prediction"] < median].nlargest(5, "prediction")
    found = pandas.read_csv(tmp_path / "out.csv")
    assert found["id"].tolist() == expected["id"].tolist()
    assert (summary.n_kept, summary.n_predicted, summary.n_failed) == (len(expected), 21, 1)
    with stopped_after(3), pytest.raises(KeyboardInterrupt):
        run("again.csv", keep=["K_VRH > 2"])
    with pytest.raises(InputError, match="holds unfinished predictions with another keep;"):
        run("again.csv", keep=["K_VRH > 3"])


def test_stopped_and_resumed_it_is_the_table_of_one_go(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run("straight.csv")
    batches: list[Any] = []
    assess = Predictor._outputs

    def counting(predictor: Predictor, results: Any, *others: Any) -> Any:
        batches.append(len(results))
        return assess(predictor, results, *others)

    for n_batches in (7, 1):  # stops in the fourth shard, and again in it
        with stopped_after(n_batches), pytest.raises(KeyboardInterrupt):
            run("out.csv")
        assert not (tmp_path / "out.csv").exists()
        assert len(list((tmp_path / "out.csv.unfinished").glob("00*.json"))) == 3
    monkeypatch.setattr(Predictor, "_outputs", counting)
    assert run("out.csv") == expected
    assert sum(batches) == 22 - 3 * 4
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "straight.csv").read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize("what", ["model", "model without its folder", "input", "coverage", "batch_size"])
def test_predictions_of_something_else_are_kept_and_not_mixed_in(
    what: str, run: Callable[..., Any], data: Path, tmp_path: Path, save_small_model: Save
) -> None:
    what, _, is_gone = what.partition(" without its ")
    if is_gone:
        shutil.rmtree(tmp_path / "model")
    with stopped_after(3), pytest.raises(KeyboardInterrupt):
        run("out.csv")
    options: dict[str, Any] = {}
    if what == "model":
        save_small_model(tmp_path / "other", "gatgnn")
        options["predictor"] = load(tmp_path / "other", device="cpu")
        if is_gone:
            shutil.rmtree(tmp_path / "other")
    elif what == "input":
        data.write_text(data.read_text().replace("made-21", "made-00"))
    else:
        options[what] = {"coverage": 0.8, "batch_size": 3}[what]
    with pytest.raises(InputError, match=f"holds unfinished predictions with another {what};"):
        run("out.csv", **options)
    assert (tmp_path / "out.csv.unfinished" / "000000.json").exists()


@pytest.mark.parametrize("damaged", [b"", b"[]", b"[" * 100_000])
def test_damaged_files_are_refused_until_they_are_removed(
    damaged: bytes, run: Callable[..., Any], tmp_path: Path
) -> None:
    run("straight.csv")
    with stopped_after(7), pytest.raises(KeyboardInterrupt):
        run("out.csv")
    origin, shard = (tmp_path / "out.csv.unfinished" / name for name in ("origin.json", "000001.json"))
    written = origin.read_bytes()
    origin.write_bytes(damaged)
    with pytest.raises(InputError, match="holds unfinished predictions with another model, input,"):
        run("out.csv")
    origin.write_bytes(written)
    shard.write_bytes(damaged)
    with pytest.raises(InputError, match=r"000001.json is missing or damaged; remove it, and repeat the command"):
        run("out.csv")
    shard.unlink()
    run("out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "straight.csv").read_bytes()


@pytest.mark.parametrize("name", ["thesis.tex", "1.json", "origin.json"])
def test_files_of_others_are_not_removed(name: str, run: Callable[..., Any], tmp_path: Path) -> None:
    mine = tmp_path / "out.csv.unfinished" / name
    mine.parent.mkdir()
    mine.write_text("{}")
    with pytest.raises(InputError, match=r"holds (other files|unfinished predictions with another)"):
        run("out.csv")
    assert mine.read_text() == "{}"


def test_one_process_at_a_time(run: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.csv.unfinished"
    with open_shards(folder, {}):
        with pytest.raises(InputError, match="is in use by another process; wait for it, or"):
            run("out.csv")
        (folder / "mine").touch()
    assert [path.name for path in folder.iterdir()] == ["mine"]  # it has come in since, and stays


def test_a_stop_before_the_first_shard_leaves_nothing(run: Callable[..., Any], tmp_path: Path) -> None:
    with stopped_after(1), pytest.raises(KeyboardInterrupt):
        run("out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "model"]


def test_ctrl_c_says_how_to_go_on(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("straight.csv")
    monkeypatch.chdir(tmp_path)
    command = ["predict", "--model", "model", "--root_dir", "in.jsonl", "--batch_size", "2", "--device", "cpu"]
    with stopped_after(5):
        assert main(command) == 130
    assert "is in predictions.csv.unfinished; the same command goes on from there" in capsys.readouterr().err
    assert main(command) == 1
    captured = capsys.readouterr()
    assert "note: going on with the predictions in predictions.csv.unfinished" in captured.err
    assert "21 of 22 structures predicted: predictions.csv" in captured.out
    assert Path("predictions.csv").read_bytes() == Path("straight.csv").read_bytes()


def predict_in_small_shards(command: list[str]) -> None:
    """Run ``crysmm predict`` with many shards of few crystals."""
    crysmm.inference.screening.ROWS_PER_SHARD = 4
    main(command)


def test_killed_it_goes_on(run: Callable[..., Any], data: Path, tmp_path: Path, crystals: dict[str, Crystal]) -> None:
    write_input(data, grown(crystals, 150))
    run("straight.csv")
    output, unfinished = tmp_path / "out.csv", tmp_path / "out.csv.unfinished"
    command = ["predict", "--model", str(tmp_path / "model"), "--root_dir", str(data), "--output", str(output)]
    command += ["--batch_size", "2", "--device", "cpu"]
    process = forked.start(predict_in_small_shards, command, output=tmp_path / "printed.txt")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(unfinished.glob("00*.json"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.join()
    (tmp_path / "printed.txt").unlink()
    assert 2 <= len(list(unfinished.glob("00*.json"))) < 38
    assert not output.exists()
    assert main(command) == 1
    assert output.read_bytes() == (tmp_path / "straight.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "model", "out.csv", "straight.csv"]


def test_a_cluster_of_which_a_worker_is_killed_writes_the_same_table(run: Callable[..., Any], tmp_path: Path) -> None:
    distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")
    expected = run("straight.csv")
    ensure_running()  # the server of tests.forked, whose processes have imported torch
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        patch.dict(os.environ),  # the cluster leaves numbers of threads in it
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        first, _ = client.run(os.getpid).values()
        killing = threading.Timer(0.5, os.kill, (first, signal.SIGKILL))
        killing.start()
        assert run("out.csv", scheduler=cluster.scheduler_address) == expected
        killing.join()
        assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "straight.csv").read_bytes()


def test_a_cluster_that_cannot_be_used(
    run: Callable[..., Any], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crysmm.cluster.SECONDS_TO_ANSWER", 1)
    with pytest.raises(InputError, match=re.escape("no Dask scheduler answers at tcp://127.0.0.1:1")):
        run("out.csv", scheduler="tcp://127.0.0.1:1")
    assert predictor.loading is not None
    maker = ShardMaker(2, 0.9, 1, Selection())
    with pytest.raises(InputError, match="a worker of the cluster has another model in"):
        crysmm.inference.screening._make_elsewhere(predictor.loading, "another checksum", maker, (0, []))
    (row,) = source_from_files([SAMPLE_FILE]).rows()
    gone = [replace(row, path=Path("/not/here/mp-149.vasp"))]
    with pytest.raises(InputError, match=re.escape("cannot see /not/here/mp-149.vasp; put")):
        crysmm.inference.screening._make_elsewhere(predictor.loading, "any", maker, (0, gone))


def test_rows_of_a_data_frame(predictor: Predictor, crystals: dict[str, Crystal], tmp_path: Path) -> None:
    names = ["NaCl", "Cu"]
    frame = pandas.DataFrame({"structure": [crystals[name].to_jarvis() for name in names]}, index=names)
    screen(predictor, frame, tmp_path / "a.csv", progress=False)
    table = pandas.read_csv(tmp_path / "a.csv")
    assert table["id"].tolist() == names
    np.testing.assert_allclose(table["prediction"], predictor.predict(frame["structure"])[:, 0], rtol=1e-6)


def test_an_iterator_may_change_one_object(predictor: Predictor, crystals: dict[str, Crystal], tmp_path: Path) -> None:
    atoms = crystals["Si"].to_ase()
    cell = atoms.cell.copy()

    def strained() -> Iterator[Any]:
        for factor in (0.97, 1.0, 1.03):
            atoms.set_cell(cell * factor, scale_atoms=True)
            yield atoms

    expected = [predictor.predict(one)[0] for one in strained()]
    screen(predictor, strained(), tmp_path / "strained.csv", progress=False)
    with (tmp_path / "strained.csv").open(newline="") as file:
        found = [float(row["prediction"]) for row in csv.DictReader(file)]
    assert found == pytest.approx(expected)
    assert len(set(found)) == 3


def test_one_rule_needs_no_list(predictor: Predictor, crystals: dict[str, Crystal], tmp_path: Path) -> None:
    screen(predictor, list(crystals.values()), tmp_path / "a.csv", keep="lowest 1 prediction", progress=False)
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 2
