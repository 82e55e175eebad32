"""The published runs: the settings are the authors', the commands are understood, and each trains, small."""

import json
import re
import shlex
from pathlib import Path

import pytest

from crysmm.cli.main import main
from crysmm.cli.options import CommandParser, add_config_options, config_from
from crysmm.config import TrainingConfig, load_config
from crysmm.models.networks import build_network

CHECKOUT = Path(__file__).parents[2]
REPRODUCE = CHECKOUT / "examples" / "reproduce"
BACKBONES = ("cgcnn", "gatgnn", "alignn")
ROWS = {  # crystals that have the property; a remainder of the split is left out
    "formation_energy_peratom": 55723, "optb88vdw_bandgap": 55710, "optb88vdw_total_energy": 55710, "ehull": 55357,
    "mbj_bandgap": 18172, "bulk_modulus_kv": 19680, "shear_modulus_gv": 19680, "e_form": 69239, "gap pbe": 69239,
}  # fmt: skip


def commands(backbone):
    """The arguments of every ``crysmm train`` in the README, for one backbone."""
    text = (REPRODUCE / "README.md").read_text().replace("$backbone", backbone)
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("crysmm train ")]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch, cache):
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_commands_are_understood(backbone):
    properties = []
    for arguments in commands(backbone):
        parser = CommandParser("crysmm train")
        add_config_options(parser)
        config, notes = config_from(TrainingConfig, parser.parse_args(arguments))
        assert notes == []
        assert config.model.name == backbone
        assert str(config.output_dir).endswith(f"_{backbone}")
        properties.append(config.target_key)
        n_rows = ROWS[config.target_key]
        counts = [config.n_train, config.n_val, config.n_test]
        if counts == [None] * 3:
            assert (config.val_ratio, config.test_ratio) == (0.1, 0.1)
        else:
            assert n_rows - 2 <= sum(counts) <= n_rows
    assert sorted(properties) == sorted(ROWS)


@pytest.mark.parametrize(("backbone", "parameters"), [("cgcnn", 80_833), ("alignn", 4_026_753)])
def test_networks_have_the_published_number_of_parameters(backbone, parameters):
    config, _ = load_config(TrainingConfig, REPRODUCE / f"{backbone}.json", {})
    assert sum(parameter.numel() for parameter in build_network(config, 1).parameters()) == parameters


def test_every_config_is_in_the_readme():
    names = {path.name for path in REPRODUCE.glob("*.json")}
    assert names >= {f"{backbone}.json" for backbone in BACKBONES}
    assert [name for name in names if f"`{name}`" not in (REPRODUCE / "README.md").read_text()] == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_config_trains(backbone, tmp_path):
    arguments = commands(backbone)[BACKBONES.index(backbone)]
    target = arguments[arguments.index("--target_key") + 1]
    table = (CHECKOUT / "examples" / "sample_data" / "id_prop.csv").read_text().splitlines()[1:16]
    (tmp_path / "data").mkdir()
    for line in table:
        name = line.split(",")[0] + ".vasp"
        (tmp_path / "data" / name).write_text((CHECKOUT / "examples" / "sample_data" / name).read_text())
    (tmp_path / "data" / "id_prop.csv").write_text("\n".join([f"id,{target}", *table]))
    small = ["--root_dir", tmp_path / "data", "--output_dir", tmp_path / "run", "--limit", 14, "--epochs", 1]
    counts = ["--n_train", 6, "--n_val", 4, "--n_test", 4]
    assert main(["train", *arguments, *map(str, small + counts)]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["n"] == 4
    assert metrics["test"]["mae"] > 0
