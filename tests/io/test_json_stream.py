"""Objects out of JSON files: whole ones, and piece by piece; nothing hostile is unpacked."""

import gzip
import json
import stat
import zipfile
from pathlib import Path

import pytest

from crysmm.errors import InputError
from crysmm.io.json_stream import json_list_items, json_object_items, read_json_object

TABLE = {"index": [0, 1, 2], "data": [[{"a": [1, "]"]}, 1.5], ["x,}", None], []], "columns": ["one", "two"]}


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_members_come_whole_and_the_streamed_list_item_by_item(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr("crysmm.io.json_stream.CHUNK", chunk)
    path = tmp_path / "table.json.gz"
    path.write_bytes(gzip.compress(json.dumps(TABLE, indent=indent).encode()))
    found = [(key, json.loads(text)) for key, _, text in json_object_items(path, "data")]
    assert found == [
        ("index", TABLE["index"]),
        *(("data", row) for row in TABLE["data"]),
        ("columns", TABLE["columns"]),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a JSON object"),
        ('{"data": [1, 2', "broken JSON at row 2"),
        ('{"data": [1, 2], "b"', "broken JSON at member 2"),
        ('{"data" 3}', "broken JSON at member 1"),
        ("{3: 3}", "broken JSON at member 1"),
        ('{"a": 1 "b": 2}', "broken JSON at member 1"),
        ('{"a": 1}\n{"a": 2}', "goes on with '{' behind the end"),
        ('{"data": [1]}]', "goes on with ']' behind the end"),
        ('{"a": ' + "[" * 200_000, "broken JSON at member 1"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, text, message):
    path = tmp_path / "d.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        list(json_object_items(path, "data"))


def test_a_list_behind_a_list_is_not_passed_over(tmp_path):
    (tmp_path / "d.json").write_text("[1, 2] [3]")
    with pytest.raises(InputError, match=r"goes on with '\[' behind the end of its JSON"):
        list(json_list_items(tmp_path / "d.json"))


def zip_with(path: Path, member: zipfile.ZipInfo | str, text: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    return path


def test_object_in_an_archive(tmp_path):
    assert read_json_object(zip_with(tmp_path / "d.json.zip", "d.json", '{"a": [1]}')) == {"a": [1]}


def test_hostile_archives_are_refused(tmp_path, monkeypatch):
    link = zipfile.ZipInfo("d.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "d.json.zip"
    with pytest.raises(InputError, match="a link and no file"):
        read_json_object(zip_with(path, link, "/etc/passwd"))
    with pytest.raises(InputError, match="leads out of the archive"):
        read_json_object(zip_with(path, "/d.json", "{}"))
    with pytest.raises(InputError, match="leads out of the archive"):
        read_json_object(zip_with(path, "a/../../d.json", "{}"))
    with monkeypatch.context() as small:
        small.setattr("crysmm.io.json_stream.LARGEST_EXPANSION", 2)
        with pytest.raises(InputError, match="would expand from"):
            read_json_object(zip_with(path, "d.json", " " * (3 << 20)))
    monkeypatch.setattr("crysmm.io.json_stream.LARGEST_OBJECT", 100)
    packed = tmp_path / "d.json.gz"
    packed.write_bytes(gzip.compress(b'{"a": "' + b"x" * 10_000 + b'"}'))
    with pytest.raises(InputError, match="more than 100 characters"):
        read_json_object(packed)
    monkeypatch.setattr("crysmm.io.json_stream.CHUNK", 50)
    with pytest.raises(InputError, match="broken JSON at member 1"):
        list(json_object_items(packed, "data"))
    assert {entry.name for entry in tmp_path.iterdir()} == {"d.json.zip", "d.json.gz"}


@pytest.mark.parametrize("text", ["[]", "{", "[" * 200_000, ""])
def test_text_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(InputError, match=r"d\.json (is not JSON|holds a list)"):
        read_json_object(tmp_path / "d.json")


def test_an_object_with_a_key_twice_is_refused(tmp_path):
    (tmp_path / "d.json").write_text('{"train": {"a": 1}, "val": {}, "train": {"b": 2}}')
    with pytest.raises(InputError, match="the key 'train' twice"):
        read_json_object(tmp_path / "d.json")
