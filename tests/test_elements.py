import numpy as np
import pytest

from crysmm.elements import ATOMIC_NUMBERS, feature_table


@pytest.mark.parametrize(("name", "width"), [("cgcnn", 92), ("basic", 11), ("atomic_number", 1), ("cfid", 438)])
def test_rows_are_those_of_jarvis(name, width):
    from jarvis.core.specie import get_node_attributes

    table = feature_table(name)
    assert table.shape == (104, width)
    assert table.dtype == np.float32
    assert not table[0].any()
    for symbol in ("H", "O", "Si", "Fe", "Sr", "Ba", "Lu", "Pb", "Pu", "Fm"):
        expected = np.array(get_node_attributes(symbol, name), dtype=np.float32)
        np.testing.assert_array_equal(table[ATOMIC_NUMBERS[symbol]], expected)


def test_known_values():
    assert feature_table("atomic_number")[:, 0].tolist() == list(range(104))
    silicon = dict(zip(["Z", "column", "row", "electronegativity"], feature_table("basic")[14], strict=False))
    assert silicon == {"Z": 14, "column": 14, "row": 3, "electronegativity": pytest.approx(1.9)}
    # one-hot groups: group, period, electronegativity, radius, valence electrons, ionization, affinity, block, volume
    assert feature_table("cgcnn")[14].sum() == 9


def test_elements_beyond_fermium_have_its_row_as_in_jarvis(capsys):
    feature_table.cache_clear()
    table = feature_table("cgcnn")
    assert capsys.readouterr().out == ""
    for number in (101, 102, 103):
        np.testing.assert_array_equal(table[number], table[100])


def test_shared_table_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        feature_table("cgcnn")[6] = 0
