"""Fixtures shared by all tests."""

import shutil
import sys

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor

from crysmm.crystals.crystal import Crystal
from crysmm.errors import MissingDependencyError
from crysmm.files import replacing
from crysmm.graphs.dgl import import_dgl
from crysmm.runs import plots
from crysmm.teachers.registry import load_teacher

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
BCC = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]])


def cell(a, b, c, alpha, beta, gamma):
    """Lattice vectors (rows, Angstrom) from lengths in Angstrom and angles in degrees."""
    cos_alpha, cos_beta, cos_gamma = np.cos(np.radians([alpha, beta, gamma]))
    sin_gamma = np.sin(np.radians(gamma))
    y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    z = np.sqrt(1 - cos_beta**2 - y**2)
    return np.array([[a, 0, 0], [b * cos_gamma, b * sin_gamma, 0], [c * cos_beta, c * y, c * z]])


def quartz():
    """Alpha-quartz, P3_221."""
    u, (x, y, z) = 0.4697, (0.4135, 0.2669, 0.7858)
    silicon = [[u, 0, 2 / 3], [0, u, 1 / 3], [-u, -u, 0]]
    oxygen = [[x, y, z], [-y, x - y, z + 2 / 3], [y - x, -x, z + 1 / 3]]
    oxygen += [[y, x, -z], [x - y, -y, 1 / 3 - z], [-x, y - x, 2 / 3 - z]]
    return cell(4.913, 4.913, 5.405, 90, 90, 120), silicon + oxygen, ["Si"] * 3 + ["O"] * 6


def baddeleyite():
    """Monoclinic ZrO2, P2_1/c: seven different Zr-O distances."""
    sites = [[0.2754, 0.0395, 0.2083], [0.0700, 0.3317, 0.3447], [0.4496, 0.7569, 0.4792]]
    coords = [
        position
        for x, y, z in sites
        for position in ([x, y, z], [-x, -y, -z], [-x, y + 0.5, 0.5 - z], [x, 0.5 - y, z + 0.5])
    ]
    return cell(5.1505, 5.2116, 5.3173, 90, 99.23, 90), coords, ["Zr"] * 4 + ["O"] * 8


def tenorite():
    """CuO, C2/c, in its primitive cell."""
    a, b, c = cell(4.6837, 3.4226, 5.1288, 90, 99.54, 90)
    coords = [[0, 0.5, 0], [0.5, 0, 0.5], [-0.4184, 0.4184, 0.25], [0.4184, -0.4184, 0.75]]
    return [(a - b) / 2, (a + b) / 2, c], coords, ["Cu", "Cu", "O", "O"]


def rutile():
    """TiO2, P4_2/mnm."""
    u = 0.305
    titanium = [[0, 0, 0], [0.5, 0.5, 0.5]]
    oxygen = [[u, u, 0], [1 - u, 1 - u, 0], [0.5 - u, 0.5 + u, 0.5], [0.5 + u, 0.5 - u, 0.5]]
    return np.diag([4.594, 4.594, 2.959]), titanium + oxygen, ["Ti"] * 2 + ["O"] * 4


def rock_salt():
    """NaCl in its conventional cell."""
    sodium = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    chlorine = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return 5.640 * np.eye(3), sodium + chlorine, ["Na"] * 4 + ["Cl"] * 4


def make_crystals():
    """Experimental structures by formula: from one atom to twelve, from cubic to monoclinic."""
    diamond = [[0, 0, 0], [0.25, 0.25, 0.25]]
    perovskite = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    hexagonal = [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    structures = {
        "Cu": (3.615 * FCC, [[0, 0, 0]], ["Cu"]),
        "Fe": (2.866 * BCC, [[0, 0, 0]], ["Fe"]),
        "Si": (5.431 * FCC, diamond, ["Si", "Si"]),
        "CdTe": (6.482 * FCC, diamond, ["Cd", "Te"]),
        "CsCl": (4.123 * np.eye(3), perovskite[:2], ["Cs", "Cl"]),
        "Mg": (cell(3.209, 3.209, 5.211, 90, 90, 120), hexagonal, ["Mg", "Mg"]),
        "NaCl": rock_salt(),
        "SrTiO3": (3.905 * np.eye(3), perovskite, ["Sr", "Ti", "O", "O", "O"]),
        "TiO2": rutile(),
        "SiO2": quartz(),
        "ZrO2": baddeleyite(),
        "CuO": tenorite(),
    }
    return {name: Crystal.from_arrays(*structure) for name, structure in structures.items()}


@pytest.fixture(scope="session")
def crystals():
    """Real crystals by formula (:func:`make_crystals`)."""
    return make_crystals()


@pytest.fixture(params=list(make_crystals()))
def crystal(request, crystals):
    """Each of the crystals in turn."""
    return crystals[request.param]


DRAW = plots.save_figure


@pytest.fixture(scope="session", autouse=True)
def undrawn_plots():
    """Leave the files of the plots of runs empty: matplotlib takes half the time of a small run to draw them."""

    def save(figure, path):
        with replacing(path) as temporary:
            temporary.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save_figure", save)
        yield


@pytest.fixture
def drawn_plots(monkeypatch):
    """Draw the plots of runs in this test."""
    monkeypatch.setattr(plots, "save_figure", DRAW)


@pytest.fixture(scope="session")
def dgl():
    """The dgl package; tests that need it are skipped where it has no wheel."""
    try:
        return import_dgl()
    except MissingDependencyError as error:
        pytest.skip(str(error))


SMALL_MODELS = {
    "cgcnn": {"name": "cgcnn", "node_features": 8, "fc_features": 8, "conv_layers": 1},
    "crysxpp": {"name": "crysxpp", "node_features": 8, "fc_features": 8, "conv_layers": 1},
    "gatgnn": {"name": "gatgnn", "node_features": 8, "fc_features": 8, "heads": 2, "conv_layers": 1},
    "alignn": {"name": "alignn", "hidden_features": 8, "embedding_features": 8, "alignn_layers": 1, "gcn_layers": 1},
}


@pytest.fixture
def save_small_model(crystals):
    """Writes a model folder of a small network whose batch norms have seen the crystals; gives the network back.

    Called with the folder, the name of a backbone and settings; the targets are bulk moduli of four metals, GPa.
    """
    import torch

    from crysmm.config import TrainingConfig
    from crysmm.data.batch import collate_crystals
    from crysmm.data.scaler import TargetScaler
    from crysmm.inference.saved_models import save_model
    from crysmm.models.networks import build_network

    def save(folder, name="cgcnn", **settings):
        config = TrainingConfig(model=SMALL_MODELS[name], **settings)
        scaler = TargetScaler.fit(np.array([[137.0], [168.0], [98.0], [42.0]]), range(4), config)
        torch.manual_seed(0)
        network = build_network(config, scaler.n_outputs)
        with torch.no_grad():
            network(collate_crystals(list(crystals.values()), config.graph_settings()))
        references = [crystals[formula] for formula in ("Cu", "NaCl", "SiO2")]
        elements = ["O", "Na", "Si", "Cl", "Cu"]
        save_model(folder, network, config, scaler, target_names=["K_VRH"], elements=elements, references=references)
        return network

    return save


@pytest.fixture(scope="session")
def small_run():
    """Settings of a run that takes seconds, with enough validation crystals for intervals of 90%."""
    return {
        "n_val": 20, "n_test": 5, "batch_size": 8, "device": "cpu", "precision": "32", "progress": False, "jobs": 1,
        "model": {"name": "cgcnn", "conv_layers": 1, "node_features": 8, "fc_features": 8},
    }  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window, driven by selenium; tests that need it are skipped where it is not installed.

    ``browser.get_log("browser")`` gives what pages wrote to the console since it was last asked.
    """
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",  # WebGL on the CPU
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


TOY_TEACHER = '''
import numpy as np
from ase.neighborlist import neighbor_list


class ToyTeacher:
    """Neighbors of an atom within 5 Angstrom, weighted by their charge, spread over Gaussians of their distance."""

    def __init__(self, layers, device):
        self.centers = np.array([1.5, 2.0, 2.5, 3.0, 3.5][: 5 if layers is None else layers[-1]])
        self.name = f"toy:{len(self.centers)}"
        self.width = len(self.centers)
        self.checksum = "e5" * 16

    def embed(self, crystals):
        return np.concatenate([self.of_one(crystal) for crystal in crystals])

    def of_one(self, crystal):
        if 55 in crystal.atomic_numbers:
            raise KeyError("Cs")
        atoms, neighbors, distances = neighbor_list("ijd", crystal.to_ase(), 5.0)
        weights = np.exp(-((distances[:, None] - self.centers) ** 2)) * np.cos(np.pi * distances[:, None] / 10) ** 2
        weights *= crystal.atomic_numbers[neighbors, None] + crystal.atomic_numbers[atoms, None] ** 0.5
        features = np.zeros((len(crystal), len(self.centers)))
        np.add.at(features, atoms, weights)
        return features.astype(np.float32)
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a package with entry points ``{name: object}`` and modules ``{name: source}``."""

    def put(entry_points, modules, package="toys"):
        folder = tmp_path / f"site-{package}"
        metadata = folder / f"{package}-1.0.dist-info"
        metadata.mkdir(parents=True)
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[crysmm.teachers]", *lines, ""]))
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(folder)
        get_reusable_executor().shutdown()  # processes that run already would not find the package

    return put


@pytest.fixture
def toy(install):
    """The toy teacher, by its name."""
    install({"toy": "toy_teacher:ToyTeacher"}, {"toy_teacher": TOY_TEACHER})
    return load_teacher("toy")
