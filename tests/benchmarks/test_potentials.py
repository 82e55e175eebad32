"""The study of universal potentials: each way to use one, made small with a toy."""

import csv
import json

from benchmarks import properties, study
from benchmarks.study import read_results, with_potential


def test_each_arm_uses_the_potential(data, run, tmp_path, calls, monkeypatch, toy, capsys):
    for name, arm in with_potential("toy").items():
        monkeypatch.setitem(study.ARMS, name, arm)
    monkeypatch.setattr(properties, "WITHOUT_TEXT", list(study.ARMS))
    monkeypatch.setattr(properties, "PROPERTIES", {"K": (data.name, ["--target_key", "K"])})
    monkeypatch.setattr(study, "RECIPE", [*study.RECIPE, "--epochs", "1"])
    arms = ["cgcnn", "features of toy alone", "cgcnn fused with toy", "gatgnn distilled from toy, delta rising"]
    options = ["--tables", data.parent, "--seeds", "1", "--arms", *arms]
    run(properties, "run", *options)
    assert len(calls) == 4
    heads = {}
    for folder in calls:
        config = json.loads((tmp_path / folder / "config.json").read_text())
        heads[config["head"]["name"]] = config["head"].get("embeddings", config["head"].get("teacher"))
    assert heads == {"vanilla": None, "features": "toy", "multimodal": "toy", "distilled": "toy"}

    run(properties, "run", *options)  # nothing is left to do
    assert len(calls) == 4
    with (tmp_path / "properties.csv").open(newline="") as file:
        assert [row["arm"] for row in csv.DictReader(file)] == [name for name in study.ARMS if name in arms]
    errors = read_results(tmp_path / "properties.csv")
    capsys.readouterr()
    run(properties, "report")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| features")]
    own, plain = (errors[arm]["K"][1] for arm in ("features of toy alone", "cgcnn"))
    assert line == f"| features of toy alone | {own:.4f} (one seed) ({own - plain:+.4f} (one seed)) |"


def test_the_arms_that_are_compared():
    for name in ("chgnet", "sevennet-0"):
        for way in (
            "features of {} alone",
            "cgcnn fused with {}",
            "gatgnn distilled from {}'s relations, delta rising",
        ):
            assert name in study.ARMS[way.format(name)].options
    assert study.plain_backbone("gatgnn fused with chgnet") == "gatgnn"
