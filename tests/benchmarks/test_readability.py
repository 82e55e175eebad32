"""The readability table of a toy package whose lines were counted by hand."""

import pytest

from benchmarks import readability

READING = '''\
"""How rows are read."""

from toy.models.line import Line  # a cycle, since models imports this folder


def read(path):
    """Return the rows of a file.

    Blank rows are skipped.
    """
    # the file is closed before any row is parsed
    lines = open_lines(path)

    return [_parse(line) for line in lines]


def _parse(line):
    return _number(line) + _number(line)


def _number(line):
    """Whether a line is a number is not checked."""
    return float(line)
'''  # 23 lines; bodies: read 4 (signature, comment, two statements), _parse 2, _number 2
LINE = '''\
"""A straight line."""


class Line:
    """What is fitted to the rows."""

    def fit(self, path):
        """Fit the rows of a file."""
        from toy.io.reading import read

        for row in read(path):  # one row at a time
            self.add(row)
        return self

    def _never_called(self):
        pass
'''  # 16 lines; bodies: fit 5, _never_called 2


@pytest.fixture
def toy(tmp_path):
    package = tmp_path / "toy"
    for folder, name, text in (("io", "reading", READING), ("models", "line", LINE)):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").write_text("")
        (package / folder / f"{name}.py").write_text(text)
    (package / "__init__.py").write_text('"""Fit lines to rows."""\n\nfrom toy.models.line import Line\n')  # 3 lines
    return package


def test_numbers_counted_by_hand(toy):
    assert readability.measure(toy) == {
        "files": "5",
        "file length, median / longest": "3 / 23",  # of 0, 0, 3, 16 and 23
        "function body, median / p90": "2 / 5",  # of 2, 2, 2, 4 and 5
        "functions in 1,000 lines": "119",  # 5 in 42
        "bodies of 4 lines or fewer": "80%",
        "comments in 1,000 lines": "71",  # 3 in 42
        "docstrings that open with a clause": "42.9%",  # How, Whether and What, of 7
        "private functions with one caller": "1 of 3",  # _parse; _number has two, _never_called none
        "import cycles between folders": "1",  # io and models
    }


def test_several_packages_side_by_side(toy, capsys):
    readability.main([str(toy), str(toy / "io")])
    heading, files, *_ = capsys.readouterr().out.splitlines()
    assert (heading, files) == ("\ttoy\tio", "files\t5\t2")


def test_folder_without_python_functions(tmp_path):
    with pytest.raises(SystemExit, match="holds no Python functions"):
        readability.main([str(tmp_path)])


def test_asynchronous_functions_and_nested_ones_count(tmp_path):
    (tmp_path / "module.py").write_text("async def outer():\n    def inner():\n        pass\n\n    await inner()\n")
    table = readability.measure(tmp_path)
    assert (table["function body, median / p90"], table["functions in 1,000 lines"]) == ("3 / 4", "400")
