"""The file of descriptions is whole at every moment."""

import pytest

from crysmm.errors import InputError
from crysmm.text.descriptions import Appender, Description, read_descriptions, write_descriptions

FIRST = Description("a", "NaCl is Halite structured.", "robocrys", "0.2.13", 0.8, "0123")
SECOND = Description("b", None, "jarvis", "2026.6", 0.1, "4567", reason="ValueError: no")


def test_what_is_added_is_read(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    with Appender(path) as file:
        file.add(FIRST)
        assert read_descriptions(path) == {"a": FIRST}
        file.add(SECOND)
    assert read_descriptions(path) == {"a": FIRST, "b": SECOND}
    assert "reason" not in path.read_text().splitlines()[0]


def test_an_unfinished_line_is_cut_off_and_written_again(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_descriptions(path, [FIRST, SECOND])
    path.write_bytes(path.read_bytes()[:-7])
    assert read_descriptions(path) == {"a": FIRST}
    with Appender(path) as file:
        file.add(SECOND)
    assert read_descriptions(path) == {"a": FIRST, "b": SECOND}
    assert len(path.read_text().splitlines()) == 2


def test_the_last_row_of_an_id_counts(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_descriptions(path, [SECOND, FIRST, Description("b", "Si", "jarvis", "2026.6", 0.1, "89ab")])
    assert read_descriptions(path)["b"].text == "Si"


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "a"}', '{"id": "a", "text": "b"}'])
def test_another_file_is_refused_and_left_as_it_is(tmp_path, line):
    path = tmp_path / "descriptions.jsonl"
    path.write_text(FIRST.line() + "\n" + line + "\n")
    with pytest.raises(InputError, match="line 2 is not a description; expected"):
        read_descriptions(path)
    assert path.read_text().endswith(line + "\n")
