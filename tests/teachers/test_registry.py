"""Teachers by name: built in, from installed packages, and nothing else; each follows the contract."""

import sys

import numpy as np
import pytest
import torch

from crysmm.errors import InputError, MissingDependencyError, StructureError
from crysmm.teachers.names import is_teacher, registered
from crysmm.teachers.registry import LOADERS, load_teacher
from crysmm.teachers.teacher import weights_sha256
from crysmm.testing import check_teacher


def test_a_toy_teacher_follows_the_contract(toy):
    check_teacher(toy, load_teacher("toy"))


BROKEN = {  # what is added to the features of each crystal
    "batched equals single": lambda crystal, crystals: len(crystals),
    "rotation": lambda crystal, crystals: crystal.lattice[0, 0],
    "translation": lambda crystal, crystals: crystal.frac_coords[:, :1] % 1,
    "order of the atoms": lambda crystal, crystals: np.arange(len(crystal))[:, None],
    "supercell equals cell": lambda crystal, crystals: len(crystal),
    "finite": lambda crystal, crystals: np.nan,
}


@pytest.mark.parametrize("clause", BROKEN)
def test_broken_clauses_are_found(toy, clause):
    embed = toy.embed

    def broken(crystals):
        return np.concatenate([embed([crystal]) + BROKEN[clause](crystal, crystals) for crystal in crystals])

    toy.embed = broken
    with pytest.raises(AssertionError, match=clause):
        check_teacher(toy)


def test_a_wrong_shape_is_found(toy):
    toy.width += 1
    with pytest.raises(AssertionError, match=r"shape: expected \(15, 6\), got \(15, 5\)"):
        check_teacher(toy)


def test_a_teacher_with_other_weights_is_found(toy):
    other = load_teacher("toy")
    other.checksum = "f6" * 16
    with pytest.raises(AssertionError, match="loaded again"):
        check_teacher(toy, other)


def test_chgnet():
    pytest.importorskip("chgnet")
    teacher = load_teacher("chgnet")
    assert (teacher.name, teacher.width) == ("chgnet:3", 64)
    check_teacher(teacher, load_teacher("chgnet"))


def test_layers_of_chgnet(crystals):
    """Compare with the layer from which CHGNet itself reads magnetic moments."""
    pytest.importorskip("chgnet")
    from chgnet.model.model import CHGNet
    from pymatgen.core import Structure

    crystal = crystals["TiO2"]
    structure = Structure(crystal.lattice, crystal.elements, crystal.frac_coords)
    expected = CHGNet.load(use_device="cpu", verbose=False).predict_structure(structure, return_atom_feas=True)
    both = load_teacher("chgnet:4+3").embed([crystal])
    assert both[:, :64] == pytest.approx(expected["atom_fea"], abs=1e-4)
    assert both[:, 64:] == pytest.approx(load_teacher("chgnet:4").embed([crystal]), abs=1e-4)
    assert load_teacher("chgnet-r2scan").checksum != load_teacher("chgnet").checksum


def test_sevennet(crystals):
    """The last layer is the one from which SevenNet reads the energies of the atoms."""
    pytest.importorskip("sevenn")
    from sevenn.calculator import SevenNetCalculator

    teacher = load_teacher("sevennet-0")
    assert (teacher.name, teacher.width) == ("sevennet-0:1+2+3+4+5", 640)
    check_teacher(teacher)
    atoms = crystals["TiO2"].to_ase()
    atoms.calc = calculator = SevenNetCalculator("7net-0", device="cpu")
    last = torch.from_numpy(teacher.embed([crystals["TiO2"]])[:, 512:])
    with torch.no_grad():
        hidden = calculator.model.reduce_input_to_hidden.linear(last)
        energies = calculator.model.reduce_hidden_to_energy.linear(hidden)
    scale, shift = calculator.model.rescale_atomic_energy.scale, calculator.model.rescale_atomic_energy.shift
    kinds = torch.tensor([calculator.model.type_map[z] for z in atoms.numbers])
    total = (energies[:, 0] * (scale[kinds] if scale.dim() else scale) + shift[kinds]).sum()
    assert float(total) == pytest.approx(atoms.get_potential_energy(), abs=1e-3)


def test_an_unknown_element_is_refused(crystals):
    pytest.importorskip("chgnet")
    from crysmm.crystals.crystal import Crystal

    americium = Crystal(crystals["Cu"].lattice, crystals["Cu"].frac_coords, np.array([95], dtype=np.uint8))
    with pytest.raises(StructureError, match="chgnet:3 does not know Am"):
        load_teacher("chgnet").embed([crystals["Fe"], americium])


def test_a_lone_atom_is_refused():
    pytest.importorskip("chgnet")
    from crysmm.crystals.crystal import Crystal

    argon = Crystal.from_arrays(30 * np.eye(3), [[0.5, 0.5, 0.5]], ["Ar"])
    with pytest.raises(StructureError, match="isolated atom"):
        load_teacher("chgnet").embed([argon])


def test_nothing_is_imported_before_it_is_named(install):
    install({"toy": "toy_teacher:ToyTeacher"}, {"toy_teacher": "raise RuntimeError('imported')"})
    assert is_teacher("toy")
    assert is_teacher("toy:2+3")
    assert is_teacher("sevennet-0:5")
    assert not is_teacher("os")
    assert "toy" in registered()
    assert "toy_teacher" not in sys.modules


@pytest.mark.parametrize(
    "name", ["os", "os:1", "os.path:join", "crysmm.testing", "chgnet:0", "chgnet:", "../chgnet", ""]
)
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match=r"there is no teacher .*; expected one of chgnet, "):
        load_teacher(name)


def test_a_built_in_name_stays_built_in(install):
    install({"chgnet": "toy_teacher:ToyTeacher"}, {"toy_teacher": "raise RuntimeError('imported')"})
    assert "chgnet" not in registered()
    assert "chgnet" in LOADERS


@pytest.mark.parametrize("value", ["nowhere:Teacher", "toy_teacher:Missing"])
def test_a_broken_package_is_named(install, value):
    install({"toy": value}, {"toy_teacher": ""})
    with pytest.raises(MissingDependencyError, match=rf"the teacher toy \({value}\) cannot be imported"):
        load_teacher("toy")


@pytest.mark.parametrize(("name", "package"), [("chgnet", "chgnet"), ("sevennet-0", "sevenn")])
def test_a_missing_package_is_named(monkeypatch, name, package):
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"{name} needs the package {package}: pip install"):
        load_teacher(name)


def test_a_layer_that_is_not_there_is_refused():
    pytest.importorskip("chgnet")
    with pytest.raises(InputError, match=r"chgnet has the layers 1 to 4, and not 5, 7"):
        load_teacher("chgnet:3+7+5")


def test_the_checksum_is_that_of_all_weights():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    before = weights_sha256(network)
    assert weights_sha256(network) == before
    with torch.no_grad():
        network.bias[1] += 1e-6
    assert weights_sha256(network) != before
