"""The file of descriptions is complete at any time."""

from dataclasses import replace

import pytest

from crysmm.errors import InputError
from crysmm.text.descriptions import (
    Appender,
    Description,
    descriptions_from_file,
    read_descriptions,
    write_descriptions,
)

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


LINES = ["{", "[]", '{"id": "a"}', '{"id": "a", "text": "b"}', "[" * 200_000]


@pytest.mark.parametrize(
    "line",
    [
        *LINES,
        FIRST.line().replace('"id": "a"', '"id": []'),
        FIRST.line().replace('"seconds"', '"text": 5, "seconds"'),
        FIRST.line().replace('"id": "a"', '"id": "\\ud800"'),
    ],
)
def test_another_file_is_refused_and_left_unchanged(tmp_path, line):
    path = tmp_path / "descriptions.jsonl"
    path.write_text(FIRST.line() + "\n" + line + "\n")
    with pytest.raises(InputError, match="line 2 is not a description; expected"):
        read_descriptions(path)
    assert path.read_text().endswith(line + "\n")


@pytest.mark.parametrize("content", ['{"precious": [1, 2, 3]}', "one\ntwo", "[1, 2]", FIRST.line() + '\n{"other": 1}'])
def test_another_file_without_a_last_newline_is_left_unchanged(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(InputError, match="is not a description"):
        read_descriptions(path)
    assert path.read_text() == content


def test_a_last_row_without_a_newline_is_kept(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    path.write_text(FIRST.line())
    assert read_descriptions(path) == {"a": FIRST}
    with Appender(path) as file:
        file.add(SECOND)
    assert path.read_text() == f"{FIRST.line()}\n{SECOND.line()}\n"


def test_a_row_cut_off_anywhere_is_written_again(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    for length in range(len(FIRST.line())):
        path.write_text(SECOND.line() + "\n" + FIRST.line()[:length])
        assert read_descriptions(path) == {"b": SECOND}
        with Appender(path) as file:
            file.add(FIRST)
        assert path.read_text() == f"{SECOND.line()}\n{FIRST.line()}\n"


def test_an_empty_text_is_none(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_descriptions(path, [replace(FIRST, text="")])
    assert read_descriptions(path)["a"].text is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,formula,text,K_VRH\na,Si,diamond,98.7\n", "several columns of text; .*: formula, text$"),
        ("a,Si,one,two\n", "no header line with the columns id and description; it begins with 'a, Si, one, two'"),
        ("a,Si,1.5,one\n", "no header line"),
        ("id,K_VRH\na,98.7\n", "no column of text besides the ids; it has id, K_VRH"),
        ("id,description\na,one\nb\n", "line 3 has 1 columns; expected 2: id, description"),
        ("", "no header line"),
    ],
)
def test_a_table_without_descriptions_is_refused(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        descriptions_from_file(path)


def test_a_table_of_crysmmnets_authors(tmp_path):
    """Id, composition, target, text and an unused column, whose names are the authors'."""
    path = tmp_path / "table.csv"
    path.write_text("jarvis_id,formula,gap,full,short\na,Si,1.5,diamond,x\nb,NaCl,na,salt,\n")
    assert {key: row.text for key, row in descriptions_from_file(path, "full").items()} == {"a": "diamond", "b": "salt"}
    assert descriptions_from_file(path, "short")["b"].text is None
    with pytest.raises(InputError, match="no header line with the columns id and long"):
        descriptions_from_file(path, "long")
    with pytest.raises(InputError, match=r"names a column of a \.csv file"):
        descriptions_from_file(path.rename(tmp_path / "table.jsonl"), "full")


def test_a_table_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"id,description\na,5 \xc5\n")
    with pytest.raises(InputError, match="expected comma-separated text in UTF-8"):
        descriptions_from_file(path)


def test_two_texts_of_one_crystal_are_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,text\na,first\na, first \n b ,third\n")
    assert {key: row.text for key, row in descriptions_from_file(path).items()} == {"a": "first", "b": "third"}
    path.write_text("id,text\na,first\nb,third\na,second\n")
    with pytest.raises(InputError, match="line 4 has another text of 'a' than a line before; keep one"):
        descriptions_from_file(path)
