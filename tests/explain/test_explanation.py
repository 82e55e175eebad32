"""The pictures of a lone crystal, against the numbers they show."""

import numpy as np
import pytest
from PIL import Image

from crysmm.config import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.explain import plots
from crysmm.explain.attribution import Explainer
from crysmm.explain.feature_names import feature_names
from crysmm.explain.plots import FALLS, RISES, SHOWN_ATOMS, plot_atoms, plot_features_of_crystal
from crysmm.explain.tables import BatchTables, CrystalExplanation, crystal_rows
from crysmm.inference.saved_models import load_model
from crysmm.testing import supercell


@pytest.fixture
def figures(monkeypatch):
    """The figures drawn, to look into."""
    kept = []
    save = plots.save_figure

    def keep(figure, path):
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save_figure", keep)
    return kept


@pytest.fixture
def explained(save_small_model, tmp_path):
    """Explains one crystal by a small model."""
    save_small_model(tmp_path / "model")
    model = load_model(tmp_path / "model")
    explainer = Explainer(model.network, model.scaler, 0)

    def explain(crystal, identifier="crystal"):
        batch = collate_crystals([crystal], GraphSettings(), ids=[identifier])
        contributions = explainer.contributions(batch)
        tables = BatchTables.of(batch, contributions)
        rows = crystal_rows(batch, contributions, tables, feature_names("cgcnn"))
        return CrystalExplanation.of(rows), contributions.features

    return explain


def bars(figure):
    """Label, signed length and color of each bar, from top to bottom."""
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    bottom, top = axes.get_ylim()
    assert top < 0 <= len(labels) - 1 < bottom
    return labels, [bar.get_width() for bar in axes.patches], [bar.get_facecolor() for bar in axes.patches]


def inside(figure):
    """Whether every text lies within the picture."""
    figure.draw_without_rendering()  # places them anew: it was saved at another resolution
    width, height = figure.bbox.size
    axes = figure.axes[0]
    texts = [figure._suptitle, axes.title, axes.xaxis.label, *axes.get_yticklabels()]
    boxes = [text.get_window_extent() for text in texts]
    return all(min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


def colors(values):
    from matplotlib.colors import to_rgba

    return [to_rgba(RISES if value > 0 else FALLS) for value in values]


def test_atoms_stand_element_by_element_under_their_numbers(crystals, explained, tmp_path, figures):
    quartz = crystals["SiO2"]
    order = [3, 0, 4, 1, 5, 2, 6, 7, 8]  # O and Si mixed in the file
    mixed = Crystal(quartz.lattice, quartz.frac_coords[order], quartz.atomic_numbers[order])
    crystal, contributions = explained(mixed)
    plot_atoms(tmp_path / "atoms.png", crystal, "K_VRH")
    labels, lengths, drawn = bars(figures[0])
    oxygen, silicon = [0, 2, 4, 6, 7, 8], [1, 3, 5]
    assert labels == [f"O  {atom}" for atom in oxygen] + [f"Si  {atom}" for atom in silicon]
    assert lengths == pytest.approx(contributions.sum(1)[oxygen + silicon])
    assert drawn == colors(lengths)
    assert inside(figures[0])
    assert len(np.unique(np.asarray(Image.open(tmp_path / "atoms.png")))) > 20


def test_features_of_a_crystal_are_its_own(crystals, explained, tmp_path, figures):
    crystal, contributions = explained(crystals["SrTiO3"])
    plot_features_of_crystal(tmp_path / "features.png", crystal, "K_VRH")
    labels, lengths, drawn = bars(figures[0])
    sums = contributions.sum(0)
    largest = np.argsort(-np.abs(sums))[: len(labels)]
    assert lengths == pytest.approx(sums[largest])
    assert [label.rsplit("  (", 1)[0] for label in labels] == [feature_names("cgcnn")[one].name for one in largest]
    assert drawn == colors(lengths)
    assert set(drawn) == set(colors([-1, 1]))
    assert dict(label.rsplit("  ", 1) for label in labels)["group 16"] == "(3)"
    assert inside(figures[0])


def test_a_large_cell_shows_its_largest_and_a_small_one_its_atom(crystals, explained, tmp_path, figures):
    """Also with an id that is long, and that would be no formula."""
    crystal, contributions = explained(supercell(crystals["SiO2"], (2, 2, 2)), "a_$folder/" * 9)
    plot_atoms(tmp_path / "large.png", crystal, "K_VRH")
    _, lengths, _ = bars(figures[0])
    sizes = np.sort(np.abs(contributions.sum(1)))[::-1]
    assert len(sizes) == 72
    assert np.sort(np.abs(lengths))[::-1] == pytest.approx(sizes[:SHOWN_ATOMS])
    assert f"the {SHOWN_ATOMS} largest of 72" in figures[0].axes[0].get_title()
    crystal, contributions = explained(crystals["Cu"])
    plot_atoms(tmp_path / "small.png", crystal, "K_VRH")
    labels, lengths, _ = bars(figures[1])
    assert (labels, lengths) == (["Cu  0"], pytest.approx([contributions.sum()]))
    assert "largest" not in figures[1].axes[0].get_title()
    assert all(inside(figure) for figure in figures)
