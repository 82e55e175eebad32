"""What the page of a run says, against the tables in its folder, and that nothing in the data becomes part of it."""

import argparse
import csv
import json
import re
import shlex
from collections import defaultdict
from html.parser import HTMLParser

import gemmi
import numpy as np
import pytest

from crysmm.cli.options import config_from
from crysmm.cli.train import add_arguments
from crysmm.config import TrainingConfig
from crysmm.data.units import number
from crysmm.report.html import space_group_name
from tests.report.conftest import HOSTILE_ID, HOSTILE_TARGET


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its tables, its data blocks, and the text by element."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.addresses, self.data, self.tables, self.texts = [], [], [], [], defaultdict(list)
        self._open = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.addresses += [
            attributes[name] for name in ("src", "href", "srcset", "action", "data") if name in attributes
        ]
        if tag not in ("meta", "link", "img", "br", "input"):
            self._open.append((tag, attributes))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag in ("code", "h1", "figcaption", "pre", "dd"):
            self.texts[tag].append("")
        if attributes.get("class") in ("value", "alert"):
            self.texts[attributes["class"]].append("")
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.texts["policy"].append(attributes["content"])
        if "title" in attributes:
            self.texts["title"].append(attributes["title"])

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        open_tags = [tag for tag, _ in self._open]
        classes = [attributes.get("class") for _, attributes in self._open]
        if open_tags and open_tags[-1] == "script":
            if self._open[-1][1].get("type") == "application/json":
                self.data.append(json.loads(data))
            return
        if "td" in open_tags or "th" in open_tags:
            self.tables[-1][-1][-1] += data
        for key in ("code", "h1", "figcaption", "pre", "dd"):
            if key in open_tags:
                self.texts[key][-1] += data
        for key in ("value", "alert"):
            if key in classes:
                self.texts[key][-1] += data

    def table(self, first, second):
        """The rows of the table with these first two column names."""
        (found,) = [table for table in self.tables if table[0][:2] == [first, second]]
        return found[1:]


def page_of(run):
    return Page(run.folder / "report.html")


def predictions(run, split="test"):
    with (run.folder / f"prediction_results_{split}_set.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def absolute_errors(table):
    return np.array([abs(float(row["target"]) - float(row["prediction"])) for row in table])


@pytest.fixture(scope="module")
def page(run):
    return page_of(run)


def test_scores_are_those_of_the_tables_of_predictions(run, page):
    errors = {split: absolute_errors(predictions(run, split)) for split in ("train", "val", "test")}
    test = predictions(run)
    target = np.array([float(row["target"]) for row in test])
    relative = errors["test"].mean() / abs(target - target.mean()).mean()
    r2 = 1 - (errors["test"] ** 2).sum() / ((target - target.mean()) ** 2).sum()
    held = np.mean([float(row["lower"]) <= float(row["target"]) <= float(row["upper"]) for row in test])
    assert page.texts["value"] == [number(errors["test"].mean()), number(relative), number(r2), f"{held:.1%}"]
    rows = page.table("split", "crystals")
    assert [row[:3] for row in rows] == [
        [name, str(len(errors[split])), number(errors[split].mean())]
        for split, name in (("train", "training"), ("val", "validation"), ("test", "test"))
    ]


def test_errors_by_element(run, page, rows):
    elements = {row["id"]: set(row["elements"]) for row in rows}
    test = predictions(run)
    by_element = defaultdict(list)
    for row, error in zip(test, absolute_errors(test), strict=True):
        for symbol in elements[row["id"]]:
            by_element[symbol].append(error)
    expected = {symbol: (str(len(errors)), number(np.mean(errors))) for symbol, errors in by_element.items()}
    shown = {row[0]: (row[1], row[2]) for row in page.table("element", "crystals")}
    assert shown == expected

    trained = set().union(*(elements[row["id"]] for row in predictions(run, "train")))
    titles = {title.split(":")[0]: title for title in page.texts["title"] if "MAE" in title}
    assert titles.keys() == expected.keys()
    unseen = {symbol for symbol, title in titles.items() if "in no training crystal" in title}
    assert unseen == expected.keys() - trained
    assert unseen


def test_the_worst_crystals(run, page):
    test = predictions(run)
    worst = [test[place] for place in np.argsort(-absolute_errors(test))[:10]]
    assert page.texts["code"] == [row["id"] for row in worst]
    for row in worst:
        interval = f"{number(float(row['lower']))} to {number(float(row['upper']))}"
        assert {number(float(row["target"])), number(float(row["prediction"])), interval} <= set(page.texts["dd"])
    assert set(page.texts["alert"]) >= {row["domain"] for row in worst if row["domain"]}


def test_shared_formulas(run, page, rows):
    formulas = {row["id"]: tuple(sorted((s, row["elements"].count(s)) for s in set(row["elements"]))) for row in rows}
    reduced = {
        name: tuple((symbol, n // np.gcd.reduce([n for _, n in formula])) for symbol, n in formula)
        for name, formula in formulas.items()
    }
    trained = {reduced[row["id"]] for row in predictions(run, "train")}
    test = predictions(run)
    has_formula = np.array([reduced[row["id"]] in trained for row in test])
    shown = {row[0]: row[1:] for row in page.table("crystals", "number")}
    errors = absolute_errors(test)
    assert shown["all"] == ["30", "100.0%", number(errors.mean())]
    assert shown["formula of no training crystal"][::2] == [
        str((~has_formula).sum()),
        number(errors[~has_formula].mean()),
    ]
    assert shown["unlike the training crystals"][0] == str(sum(bool(row["domain"]) for row in test))


def test_points_of_the_figures(run, page):
    parity = page.data[0]["data"]
    shown = {trace["name"]: trace for trace in parity if "customdata" in trace}
    assert set(shown) == {"training", "validation", "test"}
    names = [name.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&#x27;", "'")
             for name, _ in shown["test"]["customdata"]]  # fmt: skip
    assert [name.replace("&amp;", "&") for name in names] == [row["id"] for row in predictions(run)]


def test_rows_left_out(page):
    (row,) = page.table("id", "file")
    assert row[0] == f"broken {HOSTILE_ID}"
    assert "unknown element 'Xx'" in row[2]


def test_nothing_in_the_data_becomes_part_of_the_page(page):
    assert page.texts["h1"] == [HOSTILE_TARGET]
    assert not {"img", "svg"} & set(page.tags)
    assert page.tags.count("script") == 4 + len(page.data)
    assert all(name in json.dumps(page.data) for name in ("&lt;/script&gt;", "&lt;svg"))


def test_nothing_is_fetched(run, page):
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)
    (policy,) = page.texts["policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_classes(tmp_path, train_on):
    run = train_on(tmp_path / "run", classification_threshold=100.0)
    page = page_of(run)
    test = predictions(run)
    right = [row["target"] == row["prediction"] for row in test]
    assert page.texts["value"][0] == f"{np.mean(right):.1%}"
    doubt = [1 - float(row[f"probability_{row['target']}"]) for row in test]
    wrong = [place for place in np.argsort(-np.array(doubt), kind="stable") if not right[place]]
    assert page.texts["code"] == [test[place]["id"] for place in wrong[:10]]
    confusions = page.data[0]["data"][0]["text"]
    for row, cells in zip("01", confusions, strict=True):
        counts = [sum(one["target"] == row and one["prediction"] == column for one in test) for column in "01"]
        assert cells == [str(count) for count in counts]


def test_several_targets_of_which_logarithms_are_learned(tmp_path, train_on):
    run = train_on(tmp_path / "run", target_key=f"{HOSTILE_TARGET},volume", target_transform="log10")
    page = page_of(run)
    test = predictions(run)
    expected = []
    for name in (HOSTILE_TARGET, "volume"):
        target, predicted = (
            np.array([float(row[f"{kind}_{name}"]) for row in test]) for kind in ("target", "prediction")
        )
        expected.append(([name, "30", number(abs(target - predicted).mean())],
                         [name, "30", number(abs(np.log10(target / predicted)).mean())]))  # fmt: skip
    original, logarithms = (table for table in page.tables if table[0][:3] == ["target", "crystals", "MAE"])
    assert [row[:3] for row in original[1:]] == [one for one, _ in expected]
    assert [row[:3] for row in logarithms[1:]] == [one for _, one in expected]


def test_a_target_that_some_crystals_lack_counts_on_the_others(tmp_path, train_on, rows):
    """Every third crystal has a volume."""
    some = [{key: value for key, value in row.items() if key != "volume" or n % 3 == 0} for n, row in enumerate(rows)]
    run = train_on(tmp_path / "run", some, root_dir=None, target_key=f"{HOSTILE_TARGET},volume", epochs=1)
    page, test = page_of(run), [row for row in predictions(run) if row["target_volume"]]
    assert 0 < len(test) < 30
    mae = np.mean([abs(float(row["target_volume"]) - float(row["prediction_volume"])) for row in test])
    (table,) = (table for table in page.tables if table[0][:3] == ["target", "crystals", "MAE"])
    assert [row[:3] for row in table[1:] if row[0] == "volume"] == [["volume", f"{len(test)}", number(mae)]]
    assert f"{sum('volume' not in row for row in some)} of {len(some)} rows have no volume" in page.texts["dd"]


def test_an_ensemble_and_its_members(tmp_path, train_on):
    run = train_on(tmp_path / "run", ensemble=2)
    shown = {row[0]: row[1] for row in page_of(run).table("", "MAE")}
    assert shown["ensemble"] == number(absolute_errors(predictions(run)).mean())
    for name in ("member_1", "member_2"):
        member = page_of(type(run)(run.folder / name, {}))
        assert member.texts["value"][0] == shown[name.replace("_", " ")]


def test_deltas_of_a_distilled_head(tmp_path, train_on, run):
    head = {"name": "distilled", "teacher": str(run.folder), "delta": (0.5, 0.9)}
    page = page_of(train_on(tmp_path / "run", head=head))
    assert {row[0].removesuffix(", chosen") for row in page.table("delta", "val_mae")} == {"0.5", "0.9"}
    assert any("distillation" in figure["layout"]["yaxis"]["title"]["text"] for figure in page.data)


@pytest.mark.parametrize("n_test", [0, 1])
def test_a_tiny_run(tmp_path, train_on, n_test):
    """No intervals, no spread of the targets, and without a test split the validation split is shown."""
    run = train_on(tmp_path / "run", n_train=4, n_val=1, n_test=n_test, epochs=1, batch_size=2)
    page = page_of(run)
    split = "test" if n_test else "val"
    assert page.texts["code"] == [row["id"] for row in predictions(run, split)]
    assert page.texts["value"][0] == number(absolute_errors(predictions(run, split)).mean())


def test_the_command_makes_the_same_run(run, page):
    words = shlex.split(page.texts["pre"][0])
    assert words[:2] == ["crysmm", "train"]
    config = json.loads((run.folder / "config.json").read_text("utf-8"))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    again, _ = config_from(TrainingConfig, parser.parse_args(words[2:]))
    assert json.loads(again.model_dump_json()) | {"progress": False} == config


def test_records_in_memory(tmp_path, train_on, rows):
    page = page_of(train_on(tmp_path / "run", records=rows[:20], n_train=10, n_val=3, n_test=3, root_dir=None))
    assert not any("crysmm train" in text for text in page.texts["pre"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.00"), (0.9996, "1.00"), (-12.34, "-12.3"), (1234.5, "1,234"), (0.0214, "0.0214"),
     (999.7, "1,000"), (2.5e-7, "2.50e-07"), (np.inf, "infinite"), (-np.inf, "-infinite")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_space_groups_have_the_symbols_of_gemmi():
    with_e = {39: "Aem2", 41: "Aea2", 64: "Cmce", 67: "Cmme", 68: "Ccce"}  # gemmi's are those of before 1992
    for space_group in range(1, 231):
        symbol, _, rest = re.sub(r"<span[^>]*>", "-", space_group_name(space_group)).partition(" (")
        gemmis = gemmi.find_spacegroup_by_number(space_group).short_name().replace("H", "R")
        assert re.sub("<.*?>", "", symbol) == with_e.get(space_group, gemmis)
        assert rest.startswith(f"{space_group}), ")
    assert space_group_name(0) == "not found"


def test_the_page_is_listed_and_replaced(run):
    from crysmm.runs.run_folder import RunFolder

    assert RunFolder(run.folder).report in RunFolder(run.folder).files()
    assert re.search("report.html", (run.folder / "train.log").read_text("utf-8"))
