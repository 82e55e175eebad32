"""What is fuzzed: how an input of each kind is made, which command reads it, and what must become of it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import shutil
import struct
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random

import torch

from benchmarks.processes import SAMPLE_DATA
from crysmm.files import write_json_atomic
from crysmm.inference.model_folder import EncoderDescription, read_description
from crysmm.inference.saved_models import load_encoder, load_model
from tests.reliability.mutations import damaged, damaged_json, damaged_value
from tests.reliability.originals import ALGORITHM, BENCHMARK, Originals, submitting
from tests.reliability.watching import contents

ACCEPTED, SKIPPED, REFUSED = "accepted", "skipped", "refused"
GOOD = 2  # sound crystals beside a damaged one
MODEL_FILES = ("model.json", "model.safetensors", "calibration.safetensors", "ensemble.json")
RUN_FILES = ("config.json", "metrics.json", "ids_train_val_test.json", "model.json", "prediction_results_*_set.csv")
TABLE = "predictions.csv"


class Subject(ABC):
    """One kind of input.

    Args:
        originals: what is mutated.
    """

    def __init__(self, originals: Originals):
        self.originals = originals

    @abstractmethod
    def write(self, folder: Path, random: Random) -> list[str]:
        """Make the ``input`` in a folder, and the command that reads it; it writes to ``output`` and ``cache``."""

    def judge(self, folder: Path, code: int) -> str:
        """What has become of the input.

        Args:
            folder: that the command has run in.
            code: it ended with.

        Raises:
            AssertionError: something else than may become of it.
        """
        assert code in (0, 1, 2), f"ended with {code}"
        return REFUSED if code == 2 else ACCEPTED


class StructureFile(Subject):
    """A structure file among sound ones: predicted, or named in the table with a reason; the others are predicted."""

    suffixes: tuple[str, ...]
    file_format: str

    @abstractmethod
    def contents(self) -> list[bytes]:
        """Of sound files."""

    def write(self, folder: Path, random: Random) -> list[str]:
        """Damage one, and predict it or check it."""
        contents = self.contents()
        name, good = f"bad{random.choice(self.suffixes)}", [f"good-{n}{self.suffixes[0]}" for n in range(GOOD)]
        (folder / "input" / name).write_bytes(damaged(random.choice(contents), contents, random))
        for file, content in zip(good, contents, strict=False):
            (folder / "input" / file).write_bytes(content)
        if random.random() < 0.3:
            table = "".join(f"{file},{number}\n" for number, file in enumerate([*good, name]))
            (folder / "input" / "id_prop.csv").write_text(table)
            return checking(folder / "input", folder)
        command = predicting(self.originals.models()["values"], folder)
        command += ["--files", *(str(folder / "input" / file) for file in (*good, name))]
        return [*command, "--file_format", self.file_format] if random.random() < 0.3 else command

    def judge(self, folder: Path, code: int) -> str:
        """The sound files are predicted whatever the damaged one is."""
        table = folder / "output" / TABLE
        if not table.exists():
            assert code in (0, 1), "sound crystals are refused"
            return skipped_in(folder)
        *good, bad = rows = read_table(table)
        assert code == (1 if bad["reason"] else 0), f"ended with {code}"
        assert len(rows) == GOOD + 1, f"{len(rows)} rows of {GOOD + 1}"
        assert all(row["prediction"] and not row["reason"] for row in good), "a sound crystal is not predicted"
        return became(bad)


class Poscar(StructureFile):
    """VASP's."""

    suffixes, file_format = (".vasp", ".poscar", ""), "poscar"

    def contents(self) -> list[bytes]:
        """Of sound files."""
        return self.originals.poscars


class Cif(StructureFile):
    """CIF."""

    suffixes, file_format = (".cif", ".cif", ""), "cif"

    def contents(self) -> list[bytes]:
        """Of sound files."""
        return self.originals.cifs


class Xyz(StructureFile):
    """Extended xyz."""

    suffixes, file_format = (".xyz", ".extxyz", ""), "xyz"

    def contents(self) -> list[bytes]:
        """Of sound files."""
        return self.originals.xyz


class Table(Subject):
    """``id_prop.csv`` beside sound structures."""

    def write(self, folder: Path, random: Random) -> list[str]:
        """Damage the table; check it as training would read it, or predict its structures."""
        self.originals.write_good(folder / "input", 6)
        content = damaged(random.choice(self.originals.tables), self.originals.tables, random)
        (folder / "input" / "id_prop.csv").write_bytes(content)
        options = random.choice(([], ["--target_key", "target"], ["--target_key", "K"], ["--id_key", "jid"]))
        if random.random() < 0.7:
            return [*checking(folder / "input", folder), *options]
        return [*predicting(self.originals.models()["values"], folder), "--root_dir", str(folder / "input")]

    def judge(self, folder: Path, code: int) -> str:
        """Each row is predicted or has its reason."""
        assert code in (0, 1, 2), f"ended with {code}"
        return REFUSED if code == 2 else skipped_in(folder)


class Rows(Table):
    """Rows that hold their structure: JSON, JSONL, gzipped and zipped."""

    def write(self, folder: Path, random: Random) -> list[str]:
        """Damage the rows, their text or their archive."""
        rows = random.choice(self.originals.rows)
        name = random.choice(("rows.json", "rows.jsonl", "rows.json.zip", "rows.jsonl.gz", "rows.json.gz"))
        content = self._lines(rows, random) if ".jsonl" in name else damaged_json(rows, random)
        path = folder / "input" / name
        path.write_bytes(packed(content, path.suffix, random))
        options = random.choice(([], ["--target_key", "K"], ["--target_key", "gap"], ["--id_key", "jid"]))
        if random.random() < 0.7:
            return [*checking(path, folder), *options]
        return [*predicting(self.originals.models()["values"], folder), "--root_dir", str(path)]

    @staticmethod
    def _lines(rows: list[dict], random: Random) -> bytes:
        lines = [json.dumps(row).encode() for row in rows]
        for place in random.sample(range(len(lines)), random.choice((1, 1, 2))):
            lines[place] = damaged_json(rows[place], random).replace(b"\n", b"\\n")
        content = b"\n".join(lines) + b"\n"
        return damaged(content, [content], random) if random.random() < 0.2 else content


class Config(Subject):
    """Settings, of ours and ALIGNN's."""

    def write(self, folder: Path, random: Random) -> list[str]:
        """Damage them; show what would be used, or check sound crystals with them."""
        config = random.choice(self.originals.configs)
        path = folder / "input" / "config.json"
        path.write_bytes(damaged_json(config, random))
        command = random.choice(("train", "train", "pretrain", "check"))
        if command != "check":
            return [command, "--config", str(path), "--print_config"]
        data = folder / "input" / "data"
        good = self.originals.write_good(data, 4)
        (data / "id_prop.csv").write_text("".join(f"{file},{number}\n" for number, file in enumerate(good, start=1)))
        return [*checking(data, folder), "--config", str(path)]


class ModelFolder(Subject):
    """A trained model, of which one file is damaged; at times so that its checksum is right."""

    def write(self, folder: Path, random: Random) -> list[str]:
        """Damage a file; predict a sound crystal."""
        model, chosen = folder / "input" / "model", random.choice(list(self.originals.models().values()))
        ignored = shutil.ignore_patterns("*.csv", "*.png", "*.log", "metrics.json", "config.json", "ids_*")
        shutil.copytree(chosen, model, ignore=ignored)
        path = random.choice(sorted(path for path in model.rglob("*") if path.name in MODEL_FILES))
        if path.suffix == ".json":
            content = json.loads(path.read_bytes())
            part = random.choice([None, *(key for key in ("config", "scaler", "graph") if key in content)])
            path.write_bytes(damaged_json(content, random) if part is None else self._in_part(content, part, random))
        else:
            path.write_bytes(self._weights(path.read_bytes(), random))
            if path.name == "model.safetensors" and random.random() < 0.7:
                description = json.loads((path.parent / "model.json").read_bytes())
                description["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
                (path.parent / "model.json").write_text(json.dumps(description))
        (good,) = self.originals.write_good(folder / "input", 1)
        return [*predicting(model, folder), "--files", str(folder / "input" / good)]

    @staticmethod
    def _in_part(content: dict, part: str, random: Random) -> bytes:
        """Damage in one section, which else few of the changes would meet."""
        inner = damaged_json(content[part], random).decode("utf-8", "surrogateescape")
        text = json.dumps({**content, part: "@part@"}).replace('"@part@"', inner)
        return text.encode("utf-8", "surrogateescape")

    @staticmethod
    def _weights(content: bytes, random: Random) -> bytes:
        """Damage in the header of a safetensors file, which says what the bytes behind it are, or anywhere."""
        length = struct.unpack("<Q", content[:8])[0]
        if random.random() < 0.4:
            return damaged(content, [content], random)
        if random.random() < 0.3:
            lengths = (0, 1, length + 1, length - 1, 2**32, 2**63, 2**64 - 1)
            return struct.pack("<Q", random.choice(lengths)) + content[8:]
        header = damaged_json(json.loads(content[8 : 8 + length]), random)
        return struct.pack("<Q", len(header)) + header + content[8 + length :]

    def judge(self, folder: Path, code: int) -> str:
        """Refused, or the crystal is predicted."""
        assert code in (0, 2), f"ended with {code}"
        table = folder / "output" / TABLE
        if code == 2:
            return REFUSED
        return became(*read_table(table))


class FinishedRun(Subject):
    """A finished run, of which one file is damaged; what a command refuses, it leaves as it is."""

    def write(self, folder: Path, random: Random) -> list[str]:
        """Damage a file; audit the run, or make a contribution of it."""
        given, run = folder / "input" / "run", folder / "output" / "run"
        shutil.copytree(random.choice(list(self.originals.models().values())), given)
        config = given / "config.json"
        confined = {"cache_dir": str(folder / "cache"), "jobs": 1, "device": "cpu"}
        settings = {key: value for key, value in json.loads(config.read_bytes()).items() if key not in confined}
        config.write_text(json.dumps(settings))
        chosen = random.choice([path for pattern in RUN_FILES for path in sorted(given.glob(pattern))])
        content = chosen.read_bytes()
        is_table = chosen.suffix == ".csv"
        chosen.write_bytes(
            damaged(content, [content], random) if is_table else damaged_json(json.loads(content), random)
        )
        first = json.dumps(confined)[:-1].encode() + b", "
        config.write_bytes(re.sub(rb"^{", lambda _: first, config.read_bytes()))
        shutil.copytree(given, run)
        data = random.choice(([], ["--root_dir", str(SAMPLE_DATA)]))
        write_json_atomic(folder / "input" / "benchmark.json", self.originals.benchmark)
        return random.choice((
            ["audit", "--model", str(run), "--output_dir", str(folder / "output" / "audit"), *data],
            contributing(run, folder / "input" / "benchmark.json", folder),
        ))  # fmt: skip

    def judge(self, folder: Path, code: int) -> str:
        """Refused, with every file as it was, or done."""
        assert code in (0, 2), f"ended with {code}"
        if code == 2:
            assert contents(folder / "output" / "run") == contents(folder / "input" / "run"), "a refused run is changed"
        return REFUSED if code == 2 else ACCEPTED


class CheckpointFile(Subject):
    """A checkpoint of other code and the settings beside it, damaged in their bytes or in what they hold."""

    def write(self, folder: Path, random: Random) -> list[str]:
        """Damage one of the two; convert."""
        code, content, settings = random.choice(self.originals.checkpoints)
        checkpoint, config = folder / "input" / "checkpoint.pt", folder / "input" / "config.json"
        damage = random.choice(("bytes", "values", "values", "settings"))
        zipped = random.random() < 0.7
        held = damaged_value(content, random) if damage == "values" else content
        torch.save(held, checkpoint, _use_new_zipfile_serialization=zipped)
        if damage == "bytes":
            checkpoint.write_bytes(damaged(checkpoint.read_bytes(), [checkpoint.read_bytes()], random))
        text = damaged_json(settings, random) if damage == "settings" else json.dumps(settings).encode()
        config.write_bytes(text)
        output = str(folder / "output" / "model")
        return ["convert", str(checkpoint), "--from", code, "--config", str(config), "--output_dir", output]

    def judge(self, folder: Path, code: int) -> str:
        """Refused and nothing written, or a model folder that can be read."""
        assert code in (0, 2), f"ended with {code}"
        model = folder / "output" / "model"
        if code == 2:
            assert not model.exists(), "refused, and a folder is written"
            return REFUSED
        description = read_description(model)
        (load_encoder if isinstance(description, EncoderDescription) else load_model)(model)
        return ACCEPTED


class BenchmarkFile(Subject):
    """Benchmarks and folds, and what a contribution holds already."""

    def write(self, folder: Path, random: Random) -> list[str]:
        """Damage one; make a contribution of a finished run, or go on with a submission."""
        return random.choice((self._leaderboard, self._matbench))(folder, random)

    def _leaderboard(self, folder: Path, random: Random) -> list[str]:
        benchmark = folder / "input" / random.choice(("benchmark.json", "benchmark.json.zip", "benchmark.json.gz"))
        content = damaged_json(self.originals.benchmark, random)
        benchmark.write_bytes(packed(content, benchmark.suffix, random))
        return contributing(self.originals.models()["values"], benchmark, folder)

    def _matbench(self, folder: Path, random: Random) -> list[str]:
        submission, folds = self.originals.submission(), folder / "input" / "folds.json"
        shutil.copytree(submission / "output", folder / "output", dirs_exist_ok=True)
        folds.write_text(json.dumps(self.originals.folds))
        written = folder / "output" / f"matbench_v0.1_{ALGORITHM}"
        chosen = random.choice((folds, folds, written / "results.json.gz", written / "info.json"))
        is_packed = chosen.suffix == ".gz"
        content = gzip.decompress(chosen.read_bytes()) if is_packed else chosen.read_bytes()
        chosen.write_bytes(packed(damaged_json(json.loads(content), random), chosen.suffix, random))
        shutil.copy(chosen, folder / "input" / f"damaged-{chosen.name}")
        return [*submitting(submission / "data", folds, folder), "--resume"]


SUBJECTS: dict[str, type[Subject]] = {
    "poscar": Poscar,
    "cif": Cif,
    "xyz": Xyz,
    "csv": Table,
    "json": Rows,
    "config": Config,
    "model": ModelFolder,
    "run": FinishedRun,
    "checkpoint": CheckpointFile,
    "benchmark": BenchmarkFile,
}


def checking(root: Path, folder: Path) -> list[str]:
    """The command that reads all that training would."""
    options = ["--cache_dir", str(folder / "cache"), "--jobs", "1", "--device", "cpu", "--progress", "false"]
    return ["check", "--root_dir", str(root), *options]


def predicting(model: Path, folder: Path) -> list[str]:
    """The command that predicts, but for the structures."""
    output = str(folder / "output" / TABLE)
    return ["predict", "--model", str(model), "--output", output, "--jobs", "1", "--device", "cpu"]


def contributing(run: Path, benchmark: Path, folder: Path) -> list[str]:
    """The command that makes a contribution to the JARVIS-Leaderboard of a run."""
    places = ["--benchmark_file", str(benchmark), "--run", str(run), "--output_dir", str(folder / "output")]
    return ["leaderboard", "--benchmark", BENCHMARK, *places]


def packed(content: bytes, suffix: str, random: Random) -> bytes:
    """A file as its suffix says, its archive damaged at times."""
    if suffix not in (".gz", ".zip"):
        return content
    content = gzip.compress(content, mtime=0) if suffix == ".gz" else _zipped(content, random)
    return damaged(content, [content], random) if random.random() < 0.5 else content


def _zipped(content: bytes, random: Random) -> bytes:
    plain = ["rows.json"]
    names = random.choice((plain, plain, ["../rows.json"], ["/rows.json"], ["a/b.json"], ["a", "b"]))
    stream = io.BytesIO()
    method = random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            if random.random() < 0.1:
                member.external_attr = 0o120777 << 16  # a symbolic link
            archive.writestr(member, content)
    return stream.getvalue()


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table of predictions."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def became(row: dict[str, str]) -> str:
    """What became of a row: a prediction or a reason, and not both."""
    predicted = any(row[name] for name in row if name.startswith(("prediction", "probability", "class")))
    assert predicted != bool(row["reason"]), f"neither a prediction nor a reason, or both: {row}"
    return ACCEPTED if predicted else SKIPPED


def skipped_in(folder: Path) -> str:
    """Whether a row was skipped: as the table of predictions or the store in the cache says."""
    table = folder / "output" / TABLE
    if table.exists():
        return SKIPPED if SKIPPED in map(became, read_table(table)) else ACCEPTED
    (facts,) = (folder / "cache" / "stores").glob("*/store.json")
    skipped = json.loads(facts.read_text())["skipped"]
    assert all(row["reason"] for row in skipped), "a row is skipped without a reason"
    return SKIPPED if skipped else ACCEPTED
