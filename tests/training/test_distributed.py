"""Two processes on the CPU: the same result as one, and no work or file twice."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crysmm.comparison.compare import compare
from crysmm.device import Machine
from crysmm.errors import InputError
from crysmm.processes import Processes, process_layout
from crysmm.training.train import train
from tests.forked import start_two, train_by_two

EXAMPLES = Path(__file__).parents[2] / "examples" / "sample_data"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

TRAIN = """
import sys
from crysmm.config import TrainingConfig
from crysmm.training.train import train

train(TrainingConfig.model_validate_json(sys.argv[1]))
"""


def predictions(folder, split):
    with (folder / f"prediction_results_{split}_set.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["id"] for row in rows], np.array([float(row["prediction"]) for row in rows])


def history(folder):
    return np.genfromtxt(folder / "history.csv", delimiter=",", names=True)


@pytest.fixture
def two_and_one(make_config, tiny_alignn, tmp_path):
    """Settings of one run by two processes and of another by one: the last step of 17 in eights is one crystal."""
    config = make_config(model=tiny_alignn, learning_rate=0.01)
    assert (30 - 6 - 7) % 8 == 1
    return config, config.model_copy(update={"output_dir": tmp_path / "one"})


def test_torchrun_equals_one_process(two_and_one, tmp_path, cache_dir):
    two, one = two_and_one
    two = two.model_copy(update={"cache_dir": tmp_path / "cache", "progress": True})
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    finished = subprocess.run([*TORCHRUN, script, two.model_dump_json()], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("epoch 2/3") == 1
    assert finished.stdout.count("predict with:") == 1
    assert finished.stderr.count("reading structures: 100%") <= 1
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 1

    result = train(one)
    assert {path.name for path in two.output_dir.iterdir()} == {path.name for path in result.folder.iterdir()}
    for split, n_crystals in (("train", 17), ("val", 6), ("test", 7)):
        (ids, values), (expected_ids, expected) = predictions(two.output_dir, split), predictions(result.folder, split)
        assert ids == expected_ids
        assert len(set(ids)) == n_crystals
        np.testing.assert_allclose(values, expected, rtol=1e-5)
    by_two, by_one = history(two.output_dir), history(one.output_dir)
    for name in ("train_loss", "val_loss", "val_mae"):
        np.testing.assert_allclose(by_two[name], by_one[name], rtol=1e-5)


def test_batch_norm_takes_statistics_from_both_processes(two_and_one, make_config, tmp_path):
    """CGCNN; in the last step the second process has no crystal of its own.

    With SGD: Adam would enlarge the rounding in the gradients of biases, which batch norm cancels.
    """
    two, one = (
        config.model_copy(update={"model": make_config().model, "optimizer": "sgd", "epochs": 2})
        for config in two_and_one
    )
    assert two.model.name == "cgcnn"
    train_by_two(two, tmp_path / "printed.txt")
    result = train(one)
    weights, expected = (load_file(folder / "model.safetensors") for folder in (two.output_dir, result.folder))
    assert weights.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(weights[name], values, rtol=1e-4, atol=1e-5, msg=name)
    by_two, by_one = history(two.output_dir), history(result.folder)
    for name in ("train_loss", "val_loss", "val_mae"):
        np.testing.assert_allclose(by_two[name], by_one[name], rtol=1e-5)
    # the network that was validated is the one that is saved
    with (two.output_dir / "prediction_results_val_set.csv").open(newline="") as file:
        errors = [abs(float(row["target"]) - float(row["prediction"])) for row in csv.DictReader(file)]
    assert np.mean(errors) == pytest.approx(by_two["val_mae"].min(), rel=1e-5)


def test_pretraining_by_two_processes_in_bf16(make_config, tmp_path):
    """Keep the running statistics of batch norm in float32."""
    words = ["--root_dir", EXAMPLES, "--limit", "30", "--output_dir", tmp_path / "encoder", "--precision", "bf16"]
    words += ["--epochs", "1", "--val_ratio", "0.2", "--device", "cpu", "--cache_dir", make_config().cache_dir]
    words += ["--method", "imitation", "--method.teacher", "decoys-mp", "--jobs", "1"]
    finished = subprocess.run([*TORCHRUN, "-m", "crysmm", "pretrain", *words], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    assert all(torch.isfinite(values).all() for values in weights.values())


def test_devices_starts_processes_and_tells_an_error_once(make_config, tmp_path):
    """The command starts its second process itself; what is wrong is said by one of them."""
    command = [sys.executable, "-m", "crysmm", "train", "--root_dir", "nowhere", "--output_dir", str(tmp_path / "run")]
    failed = subprocess.run([*command, "--device", "cpu", "--devices", "2"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.count("nowhere does not exist") == 1
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_first_process_ends_a_comparison_by_two(make_config, tmp_path):
    """Start both at once, as torchrun does; the second would wait two days for the first."""
    processes = start_two(compare, make_config(n_val=1000), tmp_path / "output.txt")
    for process in processes:
        process.join(120)
    try:
        assert [process.exitcode for process in processes] == [1, 2]
    finally:
        for process in processes:
            process.kill()
    assert (tmp_path / "output.txt").read_text().count("InputError: the split needs more crystals") == 1


def test_the_group_ends_before_the_interpreter(tmp_path):
    """A thread of gloo that lets go of a tensor while Python ends aborts the process; the split is impossible."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "of = lambda torch: torch and torch.distributed.is_initialized()\n"
        "atexit.register(lambda: sys.stdout.write(f'group left: {of(sys.modules.get(\"torch\"))}\\n'))\n"
    )
    command = [sys.executable, "-m", "crysmm", "train", "--root_dir", EXAMPLES, "--limit", "5", "--n_val", "9"]
    folders = ["--output_dir", tmp_path / "run", "--cache_dir", tmp_path / "cache"]
    failed = subprocess.run(
        [*map(str, [*command, *folders]), "--device", "cpu", "--devices", "2"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(EXAMPLES.parents[1])])},
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 2, failed.stderr
    assert failed.stderr.count("crysmm: error: ") == 1
    assert [line for line in failed.stdout.splitlines() if line.startswith("group")] == ["group left: False"] * 2


def test_processes_are_those_srun_has_started(make_config, monkeypatch):
    """On 2 machines with 4 tasks each; a job script without srun is one process, whatever it has reserved."""
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_JOB_NAME", "job")
    assert process_layout(make_config())[:2] == (1, 1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    with pytest.raises(InputError, match="ntasks-per-node"):
        process_layout(make_config())
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    assert process_layout(make_config())[:2] == (4, 2)


def test_several_machines_need_something_that_connects_them(make_config, monkeypatch):
    config = make_config(num_nodes=2, devices=2)
    with pytest.raises(InputError, match="--num_nodes 2: nothing connects this process with other machines"):
        process_layout(config)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert process_layout(config)[:2] == (2, 2)


def test_the_environment_does_not_set_the_device(make_config, monkeypatch):
    """Fabric would look for a GPU."""
    monkeypatch.setenv("LT_ACCELERATOR", "cuda")
    config = make_config()
    assert Processes(config, Machine.of(config)).device.type == "cpu"
    assert os.environ["LT_ACCELERATOR"] == "cuda"


def test_an_impossible_machine_is_an_input_error(make_config, monkeypatch):
    """Lightning refuses to start processes from where it cannot repeat the command."""
    monkeypatch.setattr("lightning_fabric.connector._IS_INTERACTIVE", True)
    with pytest.raises(InputError, match="cannot be set up on 2 x cpu"):
        train(make_config(devices=2))
