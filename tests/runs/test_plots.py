import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from crysmm.config import TrainingConfig
from crysmm.data.scaler import TargetScaler
from crysmm.runs import plots
from crysmm.runs.plots import new_figure, plot_history, plot_parity, save_figure

pytestmark = pytest.mark.usefixtures("drawn_plots")
MODULI = np.random.default_rng(0).lognormal(4.5, 0.7, (60, 2))  # GPa, about as real ones lie


def drawn(path: Path) -> np.ndarray:
    """The picture's pixels; it is not blank."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    return pixels


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures drawn, to look into."""
    kept: list = []
    save = plots.save_figure

    def keep(figure: Any, path: Path) -> None:
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save_figure", keep)
    return kept


def test_parity_says_the_error_and_has_equal_axes(tmp_path: Path, figures: list) -> None:
    scaler = TargetScaler.fit(MODULI, range(40), TrainingConfig())
    prediction = MODULI + 7.0
    results = {"val": (MODULI[:20], MODULI[:20]), "test": (MODULI[20:], prediction[20:])}
    plot_parity(tmp_path / "parity.png", results, scaler, ["K_VRH", "G_VRH"], ["GPa", None])
    drawn(tmp_path / "parity.png")
    assert len(figures[0].axes) == 2
    axes = figures[0].axes[0]
    assert axes.get_xlim() == axes.get_ylim()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["validation: 20 crystals, MAE 0 GPa", "test: 40 crystals, MAE 7 GPa"]
    assert axes.get_xlabel() == "K_VRH, target (GPa)"
    assert figures[0].axes[1].get_xlabel() == "G_VRH, target (unit of the input)"


def test_parity_of_logarithms_has_logarithmic_axes(tmp_path: Path, figures: list) -> None:
    scaler = TargetScaler.fit(MODULI[:, :1], range(40), TrainingConfig(target_transform="log10"))
    plot_parity(tmp_path / "parity.png", {"test": (MODULI[:, :1], MODULI[:, :1] * 1.1)}, scaler, ["K_VRH"], ["GPa"])
    drawn(tmp_path / "parity.png")
    assert figures[0].axes[0].get_xscale() == figures[0].axes[0].get_yscale() == "log"


def test_parity_of_one_crystal(tmp_path: Path) -> None:
    scaler = TargetScaler.fit(MODULI[:, :1], range(40), TrainingConfig())
    plot_parity(tmp_path / "parity.png", {"test": (MODULI[:1, :1], MODULI[:1, :1])}, scaler, ["K_VRH"], ["GPa"])
    drawn(tmp_path / "parity.png")


def test_confusions(tmp_path: Path, figures: list) -> None:
    targets = np.array([[1.0], [9.0], [9.0], [9.0]])
    scaler = TargetScaler.fit(targets, range(4), TrainingConfig(classification_threshold=5))
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    plot_parity(tmp_path / "parity.png", {"test": (targets, probabilities)}, scaler, ["gap"], [None])
    drawn(tmp_path / "parity.png")
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["1", "0", "1", "2"]  # rows are the true classes


@pytest.mark.parametrize("n_epochs", [1, 30])
def test_history_shows_the_baseline_and_the_best_epoch(tmp_path: Path, figures: list, n_epochs: int) -> None:
    errors = 20 / np.arange(1, n_epochs + 1)
    rows = [
        {"epoch": epoch + 1, "train_loss": error / 20, "val_loss": error / 15, "val_mae": error}
        for epoch, error in enumerate(errors)
    ]
    plot_history(tmp_path / "history.png", rows, "mae", 25.0)
    drawn(tmp_path / "history.png")
    labels = [text.get_text() for text in figures[0].axes[1].get_legend().get_texts()]
    assert labels[1] == "mean of the training split: 25"
    assert labels[2] == f"best, epoch {n_epochs}: {errors[-1]:.3g}"
    assert figures[0].axes[1].get_ylim()[1] > 20


def test_global_state_of_matplotlib_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take pyplot, which holds that state, away from who has imported it before."""
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)
    plot_history(tmp_path / "history.png", [{"epoch": 1, "train_loss": 1, "val_loss": 1, "val_mae": 1}], "mae", 1.0)
    drawn(tmp_path / "history.png")
    assert "matplotlib.pyplot" not in sys.modules


def test_one_wild_epoch_hides_neither_the_others_nor_the_best(tmp_path: Path, figures: list) -> None:
    errors = [1e6, 9.0, 8.0]
    rows = [
        {"epoch": epoch, "train_loss": 1.0, "val_loss": error, "val_mae": error}
        for epoch, error in enumerate(errors, 1)
    ]
    plot_history(tmp_path / "history.png", rows, "mae", 2.0)
    assert 9.0 < figures[0].axes[1].get_ylim()[1] < 100


def test_without_a_baseline_the_terms_stand_as_shares_of_their_first_values(tmp_path: Path, figures: list) -> None:
    terms = {"features": [4.0, 2.0, 1.0], "contrast": [0.0, 0.5, 0.0], "lengths": [np.nan, 0.7, 0.6]}
    rows = [
        {"epoch": epoch + 1.0, "train_loss": 3.0 - epoch, "val_loss": 4.0 - epoch}
        | {f"val_{name}": values[epoch] for name, values in terms.items()}
        for epoch in range(3)
    ]
    plot_history(tmp_path / "history.png", rows, "loss", None)
    lines = {line.get_label(): line.get_ydata() for line in figures[0].axes[1].lines}
    expected = {"features": [1, 0.5, 0.25], "contrast": [0, 0.5, 0], "lengths": [np.nan, 0.7, 0.6]}
    assert lines.keys() == expected.keys()
    assert all(lines[name] == pytest.approx(values, nan_ok=True) for name, values in expected.items())
    assert drawn(tmp_path / "history.png").any()


def test_names_of_the_data_are_no_formulas(tmp_path):
    figure = new_figure(4, 3)
    figure.subplots().set(title="V ($\\angstrom^3$)", xlabel="$\\angstrom^3$")  # matplotlib does not know it
    save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size
