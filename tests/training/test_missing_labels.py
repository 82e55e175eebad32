"""Several properties at once, of which crystals lack some: from a table with gaps to predictions of all."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from crysmm.cli.main import main
from crysmm.errors import InputError
from crysmm.training.train import train
from tests.forked import train_by_two

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
N_ROWS = 80


def modulus_is_known(number):
    return number % 5 != 3


def volume_is_known(number):
    """One row in ten has neither of both."""
    return number % 10 == 3 or number % 4 == 1


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Sample crystals with their bulk moduli (GPa) and volumes per atom (cubic Angstrom), some of them missing."""
    path = tmp_path_factory.mktemp("data") / "gaps.jsonl"
    with (SAMPLE_DATA / "id_prop.csv").open(newline="") as file:
        moduli = {row["id"]: float(row["K_VRH"]) for row in csv.DictReader(file)}
    lines = []
    for number, (name, modulus) in enumerate(list(moduli.items())[:N_ROWS]):
        atoms = read(SAMPLE_DATA / f"{name}.vasp")
        lines.append({
            "id": name,
            "lattice_mat": atoms.cell.tolist(),
            "frac_coords": atoms.get_scaled_positions().tolist(),
            "elements": atoms.get_chemical_symbols(),
            "K": modulus if modulus_is_known(number) else (None, "na", float("nan"), "")[number % 4],
            **({"V": float(atoms.get_volume()) / len(atoms)} if volume_is_known(number) else {}),
        })  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def settings(table, make_settings, tmp_path):
    """Settings of a small run on both properties; 8 of the 80 rows lack both."""

    def make(**changes):
        given = {"root_dir": table, "limit": None, "id_key": "id", "target_key": "K,V", "n_val": 16, "n_test": 16}
        return make_settings(**({"output_dir": tmp_path / "run"} | given | changes))

    return make


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def labels_of(table):
    """Known labels by id and property."""
    rows = map(json.loads, table.read_text().splitlines())
    return {
        row["id"]: {key: value for key in ("K", "V") if isinstance(value := row.get(key), float) and value == value}
        for row in rows
    }


def test_table_has_gaps_of_every_kind(table):
    known = [len(labels) for labels in labels_of(table).values()]
    assert [known.count(number) for number in (0, 1, 2)] == [8, 56, 16]


def test_from_the_command_line_to_predictions(table, tmp_path, capsys):
    """Check, train and predict; nothing of a gap is a fault."""
    model = ["--model.conv_layers", "1", "--model.node_features", "8", "--model.fc_features", "8", "--device", "cpu"]
    data = ["--root_dir", table, "--target_key", "K,V", "--id_key", "id", "--cache_dir", tmp_path / "cache"]
    given = [str(word) for word in [*data, *model, "--jobs", 1, "--progress", "false"]]
    assert main(["check", *given]) == 0
    shown = capsys.readouterr().out
    for line in ("16 of 80 rows have no K", "56 of 80 rows have no V", "8 of 80 rows have none of the properties"):
        assert line in shown

    run = tmp_path / "run"
    settings = ["--output_dir", str(run), "--epochs", "2", "--n_val", "16", "--n_test", "16", "--target_weights", "1,3"]
    assert main(["train", *given, *settings]) == 0
    shown = capsys.readouterr().out
    assert "56 of 80 rows have no V" in shown
    assert "skipped" not in shown
    assert rows_of(run / "skipped.csv") == []
    found = json.loads((run / "config.json").read_text())
    assert found["target_weights"] == [1, 3]

    known, n_rows = labels_of(table), 0
    for split in ("train", "val", "test"):
        for row in rows_of(run / f"prediction_results_{split}_set.csv"):
            n_rows += 1
            for name in ("K", "V"):
                assert np.isfinite(float(row[f"prediction_{name}"]))
                assert row[f"target_{name}"] == (repr(known[row["id"]][name]) if name in known[row["id"]] else "")
    assert n_rows == 72

    folder = ["--model", str(run), "--root_dir", str(table), "--id_key", "id", "--device", "cpu"]
    assert main(["predict", *folder, "--output", str(tmp_path / "out.csv")]) == 0
    predicted = {row["id"]: row for row in rows_of(tmp_path / "out.csv")}
    assert len(predicted) == N_ROWS  # also the rows without a label
    for row in rows_of(run / "prediction_results_test_set.csv"):
        for name in ("prediction_K", "prediction_V", "upper_V"):
            assert float(predicted[row["id"]][name]) == pytest.approx(float(row[name]), rel=1e-5)
    assert main(["audit", "--model", str(run)]) == 0


def test_metrics_are_those_of_the_labels_that_are_there(settings, table, drawn_plots, capsys):
    result = train(settings(epochs=3))
    known = labels_of(table)
    train_rows = rows_of(result.folder / "prediction_results_train_set.csv")
    for split in ("val", "test"):
        rows = rows_of(result.folder / f"prediction_results_{split}_set.csv")
        errors = {
            name: [
                abs(float(row[f"prediction_{name}"]) - known[row["id"]][name]) for row in rows if row[f"target_{name}"]
            ]
            for name in ("K", "V")
        }
        for name, values in errors.items():
            found = result.metrics[split]["per_target"][name]
            assert (found["n"], found["mae"]) == (len(values), pytest.approx(np.mean(values)))
        if split == "val":
            deviations = {
                name: np.std([float(row[f"target_{name}"]) for row in train_rows if row[f"target_{name}"]])
                for name in errors
            }
            score = np.mean([np.mean(values) / deviations[name] for name, values in errors.items()])
            history = [float(row["val_mae_over_std"]) for row in rows_of(result.folder / "history.csv")]
            assert min(history) == pytest.approx(score, rel=1e-3)
            assert result.metrics["monitored"] == "val_mae_over_std"
            n_validation = {name: len(values) for name, values in errors.items()}
    intervals = result.metrics["test"]["intervals"]["per_target"]
    rows = rows_of(result.folder / "prediction_results_test_set.csv")
    for name, values in errors.items():
        inside = [
            float(row[f"lower_{name}"]) <= float(row[f"target_{name}"]) <= float(row[f"upper_{name}"])
            for row in rows
            if row[f"target_{name}"]
        ]
        assert intervals[name]["covered"] == pytest.approx(np.mean(inside))
        assert intervals[name]["n_validation"] == n_validation[name]
        assert np.isfinite(float(rows[0][f"upper_{name}"])) == (n_validation[name] >= 9)
        assert len(values) == len(inside)
    for name in ("report.html", "README.md", "parity.png"):
        assert (result.folder / name).stat().st_size > 1000
    assert "NaN" not in (result.folder / "metrics.json").read_text()
    assert f"({len(errors['V'])} labels)" in capsys.readouterr().out


def test_split_of_one_property_is_that_of_the_rows_that_have_it(settings, table, tmp_path):
    """Compare the ids with those from a table that holds no other rows."""
    known = {name for name, labels in labels_of(table).items() if "V" in labels}
    lines = [line for line in table.read_text().splitlines() if json.loads(line)["id"] in known]
    (tmp_path / "only.jsonl").write_text("\n".join(lines))
    small = {"target_key": "V", "n_val": 6, "n_test": 6, "epochs": 1}
    with_gaps = train(settings(**small))
    without = train(settings(**small, root_dir=tmp_path / "only.jsonl", output_dir=tmp_path / "other"))
    for name in ("ids_train_val_test.json", "prediction_results_test_set.csv"):
        assert (with_gaps.folder / name).read_bytes() == (without.folder / name).read_bytes()
    assert rows_of(with_gaps.folder / "skipped.csv") == []


def test_a_run_with_gaps_resumes_to_the_same_model(settings, tmp_path, monkeypatch):
    whole = train(settings(epochs=3))
    broken = settings(epochs=3, output_dir=tmp_path / "broken")
    from crysmm.training.trainer import Trainer

    train_epoch = Trainer.train_epoch

    def interrupted(trainer, epoch, progress):
        if epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(trainer, epoch, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    train(broken.model_copy(update={"resume": True}))
    table_of = "prediction_results_test_set.csv"
    assert (broken.output_dir / table_of).read_bytes() == (whole.folder / table_of).read_bytes()


def test_a_file_of_ids_that_names_an_unlabeled_row_is_refused(settings, table, tmp_path):
    names = list(labels_of(table))
    ids = {"id_train": names[:3], "id_val": names[4:6], "id_test": names[8:9]}  # the last has neither
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    with pytest.raises(InputError, match="no target: K, V are all missing"):
        train(settings(ids_file=tmp_path / "ids.json", n_val=None, n_test=None))


def test_members_of_an_ensemble_train_on_the_same_labels(settings):
    result = train(settings(ensemble=2, epochs=1))
    per_target = [member["test"]["per_target"] for member in result.metrics["members"].values()]
    per_target.append(result.metrics["test"]["per_target"])
    assert len({(one["K"]["n"], one["V"]["n"]) for one in per_target}) == 1
    assert (result.folder / "report.html").stat().st_size > 1000


def test_two_processes_train_the_model_of_one(settings, tiny_alignn, tmp_path):
    """Their parts of a step have different numbers of labels; the last step of 33 in eights is one crystal."""
    config = settings(model=tiny_alignn, learning_rate=0.01, n_train=33, epochs=2, target_weights=(1, 3))
    one, two = train(config).folder, tmp_path / "two"
    train_by_two(config.model_copy(update={"output_dir": two}), tmp_path / "printed.txt")
    for name, found in ((name, rows_of(two / name)) for name in ("history.csv", "prediction_results_test_set.csv")):
        for row, expected in zip(found, rows_of(one / name), strict=True):
            for column in expected.keys() - {"seconds", "id", "domain", "distance_percentile"}:
                known = float(expected[column] or "nan")
                assert float(row[column] or "nan") == pytest.approx(known, rel=1e-4, nan_ok=True), (name, column)
