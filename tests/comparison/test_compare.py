"""``crysmm compare`` on sample data: its tables against the predictions of its runs, resuming, and refusals."""

import csv
import json
import os
import random
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

import crysmm
from crysmm.cli.main import main
from crysmm.comparison import shared_data
from crysmm.comparison.arms import Plan
from crysmm.comparison.shared_data import SharedData
from crysmm.errors import InputError
from crysmm.io.inputs import open_source
from crysmm.training.prepare import read_store
from tests import forked

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
SMALL = ["--model.conv_layers", "1", "--model.node_features", "8", "--model.fc_features", "8", "--epochs", "2"]
SMALL += ["--device", "cpu", "--precision", "32", "--progress", "false", "--jobs", "1", "--limit", "50"]
SMALL += ["--val_ratio", "0.2", "--test_ratio", "0.3"]
WIDE = "wide:model.fc_features=16,batch_size=8"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def compare(cache):
    """Return a function that runs the command on the sample data."""

    def run(folder, *options, data=SAMPLE_DATA):
        given = ["--root_dir", data, "--output_dir", folder, "--cache_dir", cache, *SMALL, *options]
        return main(["compare", *map(str, given)])

    return run


@pytest.fixture(scope="module")
def compared(compare, tmp_path_factory):
    """Return the folder of a comparison with two sizes and two seeds."""
    folder = tmp_path_factory.mktemp("out") / "compared"
    assert compare(folder, "--arms", "plain", WIDE, "constant", "--sizes", "10,all", "--seeds", "2") == 0
    return folder


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def runs_of(folder, arm, size=""):
    """Return the folders of the seeds of an arm."""
    return sorted((folder / arm).glob(f"n_{size}_*" if size else "[!n]*"))


def errors_of(folder, arm, size=""):
    """Return the absolute error of each test crystal, the mean over the seeds, from the tables of predictions."""
    errors = []
    for run in runs_of(folder, arm, size):
        rows = table(run / "prediction_results_test_set.csv")
        errors.append([abs(float(row["target"]) - float(row["prediction"])) for row in rows])
    return np.mean(errors, axis=0)


def ids_of(folder, name="all"):
    return json.loads((folder / "ids" / f"{name}.json").read_text())


def test_scores_are_those_of_the_predictions(compared):
    rows = table(compared / "comparison.csv")
    assert len(rows) == 2 * (2 + 2 + 1)
    for row in rows:
        runs = [run for run in runs_of(compared, row["arm"], row["size"]) if run.name.endswith(row["seed"])]
        for split, column in (("val", "val"), ("test", "test")):
            cells = table(runs[0] / f"prediction_results_{split}_set.csv")
            errors = [abs(float(cell["target"]) - float(cell["prediction"])) for cell in cells]
            assert float(row[column]) == pytest.approx(np.mean(errors))
        assert float(row["test_standard_error"]) == pytest.approx(stats.sem(errors))
        assert row["n_train"] == row["size"] or row["n_train"] == "25"
        if row["arm"] != "constant":
            metrics = json.loads((runs[0] / "metrics.json").read_text())
            assert float(row["test"]) == pytest.approx(metrics["test"]["mae"])
            assert float(row["seconds"]) == metrics["seconds"]


def test_pairs_are_those_of_the_predictions(compared):
    rows = table(compared / "paired.csv")
    assert [(row["size"], row["arm"], row["first"]) for row in rows] == [
        (size, arm, "plain") for size in ("10", "") for arm in ("wide", "constant")
    ]
    for row in rows:
        difference = errors_of(compared, row["arm"], row["size"]) - errors_of(compared, "plain", row["size"])
        assert float(row["difference"]) == pytest.approx(difference.mean())
        assert float(row["standard_error"]) == pytest.approx(stats.sem(difference))
        assert int(row["n_better"]) == (difference < 0).sum()
        assert int(row["n_test"]) == len(difference) == 15
        # SciPy's own draws, between the plain percentiles and twice their width.
        interval = stats.bootstrap((difference,), np.mean, method="percentile", rng=np.random.default_rng(1))
        low, high = interval.confidence_interval
        assert float(row["lower"]) < low < high < float(row["upper"])
        assert float(row["upper"]) - float(row["lower"]) < 2 * (high - low)


def test_constant_is_the_mean_of_the_training_set(compared):
    values = {row["id"]: float(row["K_VRH"]) for row in table(SAMPLE_DATA / "id_prop.csv")}
    for name, folder in (("all", "untrained"), ("n_10", "n_10_untrained")):
        mean = np.mean([values[key] for key in ids_of(compared, name)["id_train"]])
        rows = table(compared / "constant" / folder / "prediction_results_test_set.csv")
        assert [float(row["prediction"]) for row in rows] == pytest.approx([mean] * 15)


def test_all_runs_share_split_and_recipe(compared):
    whole, small = ids_of(compared), ids_of(compared, "n_10")
    assert (len(whole["id_train"]), len(whole["id_val"]), len(whole["id_test"])) == (25, 10, 15)
    assert set(small["id_train"]) < set(whole["id_train"])
    assert [small[key] for key in ("id_val", "id_test")] == [whole[key] for key in ("id_val", "id_test")]
    configs = {}
    for arm in ("plain", "wide"):
        for size, ids in (("", whole), ("10", small)):
            for run, seed in zip(runs_of(compared, arm, size), (123, 124), strict=True):
                assert json.loads((run / "ids_train_val_test.json").read_text()) == ids
                config = json.loads((run / "config.json").read_text())
                assert config["random_seed"] == seed
                configs[arm, size, seed] = config
    plain, wide = configs["plain", "", 123], configs["wide", "", 123]
    assert {key for key in plain if plain[key] != wide[key]} == {"model", "batch_size", "output_dir"}


def test_page(compared):
    page = (compared / "comparison.html").read_text()
    assert "difference to plain" in page
    assert "Learning curves" in page
    assert "with 10 training crystals and 15 test crystals" in page or "with 10 training crystals by" in page
    assert "with 25 training crystals and 15 test crystals" in page or "with 25 training crystals by" in page
    assert page.count('class="plot"') == 2 + 2  # curves and differences; a scatter plot for each other arm
    assert '<a href="plain/seed_123/report.html">' in page
    assert "model.fc_features" in page
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "//" not in "".join(re.findall(r'(?:href|src)="([^"]*)"', outside))


def test_arms_can_be_added_and_finished_runs_stay(compare, compared, capsys):
    before = {path: path.stat().st_mtime_ns for path in compared.glob("*/*/model.safetensors")}
    assert compare(compared, "--arms", "constant", "plain", "late:epochs=1", "--resume", "--unit", "GPa") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = capsys.readouterr().out
    assert "95% interval" in found
    assert "GPa" in found
    assert {row["arm"] for row in table(compared / "comparison.csv")} == {"constant", "plain", "late"}
    capsys.readouterr()
    assert compare(compared, "--arms", "constant", "plain") == 2
    assert "holds a comparison; continue it, or add arms to it, with --resume" in capsys.readouterr().err
    assert compare(compared, "--arms", "plain", "--resume", "--random_seed", "7") == 2
    assert "cannot be resumed" in capsys.readouterr().err


def test_resume_after_a_kill(compare, tmp_path, cache):
    folder = tmp_path / "killed"
    printed = tmp_path / "printed.txt"
    assert forked.run(compare_until_killed, folder, cache, output=printed) == -signal.SIGKILL, printed.read_text()
    weights = folder / "plain" / "seed_123" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert not (folder / "wide").exists()
    assert not (folder / "comparison.csv").exists()
    assert compare(folder, "--arms", "plain", WIDE, "--resume") == 0
    assert weights.stat().st_mtime_ns == before
    assert [row["arm"] for row in table(folder / "comparison.csv")] == ["plain", "wide"]


def compare_until_killed(folder, cache):
    """Compare as the fixture does, and kill this process when the second arm begins."""

    def report(name):
        if name.startswith("wide"):
            os.kill(os.getpid(), signal.SIGKILL)

    config = crysmm.TrainingConfig(
        root_dir=SAMPLE_DATA, output_dir=folder, cache_dir=cache, epochs=2, device="cpu", precision="32",
        model={"conv_layers": 1, "node_features": 8, "fc_features": 8},
        progress=False, jobs=1, limit=50, val_ratio=0.2, test_ratio=0.3,
    )  # fmt: skip
    crysmm.compare(config, ["plain", WIDE], report=report)


def test_zero_shot(compare, compared, tmp_path, capsys):
    run = compared / "plain" / "seed_123"
    assert compare(tmp_path / "out", "--arms", f"before:zero_shot={run}", "constant", "--random_seed", "5") == 0
    rows = table(tmp_path / "out" / "before" / "untrained" / "prediction_results_test_set.csv")
    files = [str(SAMPLE_DATA / f"{row['id']}.vasp") for row in rows]
    expected = crysmm.load(run).predict(files)[:, 0]
    assert [float(row["prediction"]) for row in rows] == pytest.approx(expected.tolist(), rel=1e-4)
    training = {*ids_of(compared)["id_train"], *ids_of(compared)["id_val"]}
    n_seen = len(training & {row["id"] for row in rows})
    assert f"was trained on {n_seen} of the 15 test crystals" in capsys.readouterr().err
    # On its own split nothing is shared.
    assert compare(tmp_path / "same", "--arms", f"before:zero_shot={run}") == 0
    assert "was trained on" not in capsys.readouterr().err
    shipped = "shipped:zero_shot=cgcnn-formation-energy"
    assert compare(tmp_path / "shipped", "--arms", "constant", shipped) == 2
    about = "cgcnn-formation-energy predicts formation_energy_per_atom (eV/atom), and the data have K_VRH"
    assert f"arm shipped: {about} (GPa): another unit" in capsys.readouterr().err
    assert compare(tmp_path / "shipped", "--arms", "constant", shipped, "--unit", "eV/atom") == 0
    notes = capsys.readouterr().err
    assert "predicts formation_energy_per_atom (eV/atom), and the data have K_VRH (eV/atom)" in notes
    assert "worse than the mean of the training split: another property or unit?" in notes
    assert "not known whether cgcnn-formation-energy was trained on some of the test crystals" in notes
    threshold = ("--classification_threshold", "80")
    assert compare(tmp_path / "classes", "--arms", "constant", shipped, *threshold) == 2
    assert not (tmp_path / "classes").exists()


def test_a_model_without_training_is_loaded_once(compare, compared, tmp_path, monkeypatch):
    loaded = []

    def load_and_count(folder, device):
        loaded.append(folder)
        return crysmm.load(folder, device)

    monkeypatch.setattr(shared_data, "load", load_and_count)
    run = str(compared / "plain" / "seed_123")
    assert compare(tmp_path / "out", "--arms", "constant", f"before:zero_shot={run}", "--sizes", "10,all") == 0
    assert loaded == [run]


def test_classes(compare, tmp_path):
    folder = tmp_path / "out"
    assert compare(folder, "--arms", "constant", "plain", "--classification_threshold", "80") == 0
    scores = {(row["arm"], row["metric"]): float(row["test"]) for row in table(folder / "comparison.csv")}
    truth, right = {}, {}
    for arm, path in (("constant", "untrained"), ("plain", "seed_123")):
        rows = table(folder / arm / path / "prediction_results_test_set.csv")
        truth[arm] = [row["target"] == "1" for row in rows]
        right[arm] = np.array([row["target"] == row["prediction"] for row in rows])
        area = roc_auc_score(truth[arm], [float(row["probability_1"]) for row in rows])
        assert scores[arm, "roc_auc"] == pytest.approx(area)
        assert scores[arm, "accuracy"] == pytest.approx(right[arm].mean())
    accuracy, area = table(folder / "paired.csv")
    assert float(accuracy["difference"]) == pytest.approx(right["plain"].mean() - right["constant"].mean())
    assert int(accuracy["n_better"]) == (right["plain"] & ~right["constant"]).sum()
    assert float(area["difference"]) == pytest.approx(scores["plain", "roc_auc"] - 0.5)


def test_several_properties_from_python(cache, tmp_path):
    rows = list(open_source(SAMPLE_DATA, limit=40).rows())
    chance, records = random.Random(2), []
    for row in rows:
        record = row.read()
        atoms = {
            "lattice_mat": record.crystal.lattice.tolist(),
            "coords": record.crystal.frac_coords.tolist(),
            "elements": record.crystal.elements,
            "cartesian": False,
        }
        half = {"half": record.targets[0] / 2} if chance.random() < 0.7 else {}
        records.append({"jid": record.id, "atoms": atoms, "modulus": record.targets[0], **half})
    config = crysmm.TrainingConfig(
        output_dir=tmp_path / "out",
        cache_dir=cache,
        target_key="modulus,half",
        model={"conv_layers": 1, "node_features": 8},
        epochs=1,
        device="cpu",
        progress=False,
        jobs=1,
        test_ratio=0.3,
    )
    found = crysmm.compare(config, {"constant": {}, "plain": None}, records=records, report=lambda _: None)
    assert [pair.target for pair in found.pairs] == ["modulus", "half"]
    tables = [
        table(tmp_path / "out" / arm / folder / "prediction_results_test_set.csv")
        for arm, folder in (("plain", "seed_123"), ("constant", "untrained"))
    ]
    for pair in found.pairs:
        errors = [
            [abs(float(row[f"target_{pair.target}"]) - float(row[f"prediction_{pair.target}"])) for row in rows]
            for rows in ([row for row in rows if row[f"target_{pair.target}"]] for rows in tables)
        ]
        assert pair.difference.n == len(errors[0])
        assert pair.difference.value == pytest.approx(np.mean(errors[0]) - np.mean(errors[1]))
    assert found.page.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arms", "plain", "distiled"], "did you mean distilled?"),
        (["--arms", "plain", "text"], "arm text: no crystal has a description"),
        (["--arms", "plain", "alignn", "pretrained:model=alignn"], "arm pretrained: the weights of"),
        (["--arms", "x:zero_shot=decoys-mp"], "arm x: "),
        (["--arms", "x:zero_shot=nowhere"], "nowhere is not a folder"),
        (["--arms", "plain", "--sizes", "10,26"], "--sizes: 26 is not between 1 and 25"),
        (["--arms", "plain", "--sizes", "10,x"], "expected a whole number"),
        (["--arms", "plain", "--test_ratio", "0"], "needs validation and test crystals"),
        (["--arms", "plain", "--arms_file", "arms.json"], "give one of the two"),
        (["--arms", "plain", "--classification_threshold", "80", "--sizes", "1"], "--sizes: with 1 training crystals"),
    ],
)
def test_refused_before_anything_is_written(compare, tmp_path, capsys, options, message):
    try:
        code = compare(tmp_path / "out", *options)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_are_refused_with_texts_too(compare, tmp_path, capsys):
    texts = tmp_path / "texts.csv"
    rows = (f"{row.id},A solid." for row in open_source(SAMPLE_DATA, limit=50).rows())
    texts.write_text("\n".join(["id,description", *rows]))
    arm = f"text:head.encoder=minilm,head.descriptions={texts},init_from=crysgnn-mp,model.node_features=32"
    assert compare(tmp_path / "out", "--arms", "constant", arm) == 2
    assert "arm text: no weight of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_arms_with_the_same_graphs_and_targets_are_read_together(cache, tmp_path, monkeypatch):
    read = []

    def read_and_count(config, records):
        read.append((config.model.name, config.target_transform))
        return read_store(config, records)

    monkeypatch.setattr(shared_data, "read_store", read_and_count)
    config = crysmm.TrainingConfig(
        root_dir=SAMPLE_DATA, output_dir=tmp_path, cache_dir=cache, limit=50, jobs=1, progress=False, device="cpu"
    )
    arms = ["plain", WIDE, "gatgnn", "alignn", "angles:model=alignn,epochs=3", "log:target_transform=log10"]
    data = SharedData.read(Plan.of(config, arms, [None], 1), None)
    assert read == [("cgcnn", "none"), ("alignn", "none"), ("cgcnn", "log10")]
    assert [len(names) for names in data.ids[None].values()] == [40, 5, 5]


@pytest.mark.parametrize("arm", ["fused:head=multimodal,head.embeddings=toy", "taught:head=distilled,head.teacher=toy"])
def test_crystals_that_a_teacher_cannot_embed_are_left_out_of_all_arms(arm, cache, tmp_path, toy):
    """The toy knows no cesium."""
    config = crysmm.TrainingConfig(
        root_dir=SAMPLE_DATA, output_dir=tmp_path / "out", cache_dir=cache, jobs=1, progress=False,
        device="cpu", model={"name": "cgcnn", "node_features": 8, "conv_layers": 1}, epochs=1,
    )  # fmt: skip
    with_cesium = {row.id for row in open_source(SAMPLE_DATA).rows() if "Cs" in row.read().crystal.elements}
    assert len(with_cesium) == 2
    found = crysmm.compare(config, ["plain", arm])
    ids = ids_of(config.output_dir)
    read_by_teacher = (*ids,) if arm.startswith("fused") else ("id_train", "id_val")
    assert not with_cesium & {name for split in read_by_teacher for name in ids[split]}
    assert any("that not every arm can use left out of all arms" in note for note in found.notes)


def test_foreign_folders_are_refused(compare, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    for option in ([], ["--resume"], ["--overwrite"]):
        assert compare(tmp_path, "--arms", "plain", *option) == 2
        assert "holds other files (notes.txt) and no comparison" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_split_of_an_ids_file(compared, tmp_path, cache):
    ids = ids_of(compared)
    chosen = {"id_train": ids["id_test"], "id_val": ids["id_val"], "id_test": ids["id_train"][:4]}
    (tmp_path / "ids.json").write_text(json.dumps(chosen))
    folder = tmp_path / "out"
    ratios = SMALL[SMALL.index("--val_ratio") :]
    given = ["--root_dir", SAMPLE_DATA, "--output_dir", folder, "--ids_file", tmp_path / "ids.json"]
    given += [*SMALL[: -len(ratios)], "--cache_dir", cache, "--arms", "constant", "late:epochs=1"]
    assert main(["compare", *map(str, given)]) == 0
    rows = table(folder / "late" / "seed_123" / "prediction_results_test_set.csv")
    assert [row["id"] for row in rows] == chosen["id_test"]


def test_overwrite_replaces_runs_and_nothing_else(compare, tmp_path):
    assert compare(tmp_path, "--arms", "plain", "late:epochs=1") == 0
    (tmp_path / "late" / "seed_123" / "notes.txt").write_text("mine")
    assert compare(tmp_path, "--arms", "constant", "--overwrite") == 0
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"comparison.json", "comparison.csv", "paired.csv", "comparison.html", "constant", "ids", "late"}
    assert [path.name for path in (tmp_path / "late" / "seed_123").iterdir()] == ["notes.txt"]


def test_python_errors_are_of_the_package(tmp_path):
    with pytest.raises(InputError, match="output_dir is not given"):
        crysmm.compare(crysmm.TrainingConfig(root_dir=SAMPLE_DATA))
    with pytest.raises(InputError, match="seeds: expected"):
        crysmm.compare(crysmm.TrainingConfig(root_dir=SAMPLE_DATA, output_dir=tmp_path), seeds=0)
