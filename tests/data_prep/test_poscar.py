import numpy as np
from jarvis.io.vasp.inputs import Poscar as JarvisPoscar

from crysmm.crystals.crystal import Crystal
from crysmm.io.poscar import parse_poscar
from data_prep.poscar import format_poscar


def test_every_digit_and_the_order_of_atoms_are_kept():
    crystal = Crystal.from_arrays(
        [[4.1, 0, 0], [1 / 3, 4.2, 0], [0, 1e-17, 4.3]],
        [[0, 0, 0], [0.1 + 0.2, 0.5, 2 / 3], [0.25, -0.25, 0.75], [0.5, 0.1, 0.9]],
        ["O", "Ti", "Ti", "O"],
    )
    text = format_poscar(crystal, "a comment")
    assert text.splitlines()[5:7] == ["O Ti O", "1 2 1"]
    back = parse_poscar(text)
    assert back.elements == crystal.elements
    assert np.array_equal(back.lattice, crystal.lattice)
    assert np.array_equal(back.frac_coords, crystal.frac_coords)


def test_jarvis_and_ase_and_pymatgen_read_the_same(tmp_path, crystals):
    from ase.io import read
    from pymatgen.io.vasp import Poscar

    for name, crystal in crystals.items():
        path = tmp_path / f"{name}.vasp"
        path.write_text(format_poscar(crystal, name))
        jarvis = JarvisPoscar.from_file(str(path)).atoms
        pymatgen = Poscar.from_file(path, check_for_potcar=False).structure
        ase = read(path, format="vasp")
        assert list(jarvis.elements) == [site.specie.symbol for site in pymatgen] == crystal.elements
        assert ase.get_chemical_symbols() == crystal.elements
        cartesian = crystal.frac_coords @ crystal.lattice
        for coords in (jarvis.cart_coords, pymatgen.cart_coords, ase.get_positions()):
            np.testing.assert_allclose(coords, cartesian, atol=1e-5)  # JARVIS rounds lattice vectors to 5 decimals
