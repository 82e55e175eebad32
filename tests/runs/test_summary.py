"""What a run says at its end, where it learned many targets."""

from pathlib import Path

from crysmm.runs.run_folder import RunFolder
from crysmm.runs.summary import describe_result


def test_a_spectrum_is_told_by_its_first_targets():
    one = {"n": 5, "mae": 0.5, "mae_over_mad": 0.25, "r2": 0.75}
    split = {"n": 5, "per_target": {f"target_{number}": one for number in range(300)}, "mean": {"mae_over_mad": 0.25}}
    metrics = {"val": split, "test": split, "best_epoch": 3, "epochs": 4, "stopped_by": "all epochs"}
    lines = describe_result(metrics, RunFolder(Path("run")))
    assert lines[1].startswith("test: MAE/MAD 0.25 on average; target_0: MAE 0.5, MAE/MAD 0.25, R2 0.75; target_1:")
    assert lines[1].endswith("; and 296 more (5 crystals)")
    assert "target_4" not in lines[1]
