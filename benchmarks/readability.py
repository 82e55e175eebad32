"""Measure size and shape of code: files, function bodies, comments, docstrings, helpers and import cycles.

    python -m benchmarks.readability                      # this package
    python -m benchmarks.readability path/to/other/package

A function's body is all of its lines but the docstring and blank lines, so the signature and comments count. A clause
docstring opens with What, Those, Whether, How or As where a verb or a noun is expected. A private function has one
caller where its name occurs once outside its definition. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "crysmm"
CLAUSE = re.compile(r"(What|Those|Whether|How|As)\b")
Function = ast.FunctionDef | ast.AsyncFunctionDef
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main(arguments: list[str] | None = None) -> None:
    """Print the table of one or several packages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("packages", nargs="*", type=Path, default=[PACKAGE], help="folders of Python files")
    packages = parser.parse_args(arguments).packages
    tables = [measure(package) for package in packages]
    print("\t".join(["", *(package.name for package in packages)]))
    for row in tables[0]:
        print("\t".join([row, *(table[row] for table in tables)]))


def measure(package: Path) -> dict[str, str]:
    """Return the rows of the table by name."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in sources.items()}
    lengths = [len(text.splitlines()) for text in sources.values()]
    bodies = sorted(
        body_lines(node, sources[path].splitlines())
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    )
    if not bodies:
        sys.exit(f"{package} holds no Python functions")
    clauses = [bool(CLAUSE.match(text)) for tree in trees.values() for text in docstrings(tree)]
    thousands = sum(lengths) / 1000
    return {
        "files": str(len(sources)),
        "file length, median / longest": f"{statistics.median(lengths):.0f} / {max(lengths)}",
        "function body, median / p90": f"{statistics.median(bodies):g} / {bodies[int(0.9 * len(bodies))]}",
        "functions in 1,000 lines": f"{len(bodies) / thousands:.0f}",
        "bodies of 4 lines or fewer": f"{sum(body <= 4 for body in bodies) / len(bodies):.0%}",
        "comments in 1,000 lines": f"{sum(map(n_comments, sources.values())) / thousands:.0f}",
        "docstrings that open with a clause": f"{sum(clauses) / max(len(clauses), 1):.1%}",
        "private functions with one caller": "{} of {}".format(*single_callers(trees)),
        "import cycles between folders": str(len(cycles(package, trees))),
    }


def body_lines(function: Function, lines: list[str]) -> int:
    """Count the lines of a function with its signature, without the docstring and blank lines."""
    first, statements = function.lineno, function.body
    docstring = statements[0] if ast.get_docstring(function) is not None else None
    skipped = range(docstring.lineno, (docstring.end_lineno or 0) + 1) if docstring else ()
    return sum(
        bool(lines[row - 1].strip()) and row not in skipped for row in range(first, (function.end_lineno or 0) + 1)
    )


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and functions."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text


def n_comments(source: str) -> int:
    """Count comments, including those at the end of a line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def single_callers(trees: dict[Path, ast.Module]) -> tuple[int, int]:
    """Count private functions that are named once outside their definition, and all private functions."""
    named = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
    )
    private = [
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.name.startswith("_") and not node.name.endswith("__")
    ]
    return sum(named[name] == 1 for name in private), len(private)


def cycles(package: Path, trees: dict[Path, ast.Module]) -> list[set[str]]:
    """Return groups of folders and top-level modules that import each other, also inside functions."""
    imports: dict[str, set[str]] = {}
    for path, tree in trees.items():
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] != "__init__":
            imports.setdefault(parts[0], set()).update(imported(tree, package.name))
    reachable = {unit: _reachable(unit, imports) for unit in imports}
    groups = {frozenset({unit, *(other for other in found if unit in reachable.get(other, ()))})
              for unit, found in reachable.items() if unit in found}  # fmt: skip
    return [set(group) for group in groups if len(group) > 1]


def imported(tree: ast.Module, package: str) -> set[str]:
    """Return the first part below the package of every name that a file imports from it, inside functions too."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith(f"{package}.")}


def _reachable(unit: str, imports: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(imports[unit])
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += imports.get(other, ())
    return found


if __name__ == "__main__":
    main()
