"""What is mutated: real crystals in every format, tables of them, settings, and small models trained on them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.processes import CHECKOUT, SAMPLE_DATA
from crysmm.cli.main import main
from crysmm.config import PretrainingConfig, TrainingConfig
from crysmm.convert import alignn, cgcnn
from crysmm.crystals.crystal import Crystal
from crysmm.files import write_json_atomic, write_text_atomic
from crysmm.io.inputs import open_source
from crysmm.io.source import Record
from crysmm.models.networks import build_network

N_CRYSTALS = 30
TINY = ["--model.conv_layers", "1", "--model.node_features", "8", "--model.fc_features", "8"]
TINY_ALIGNN = ["--model", "alignn", *(
    word for name in ("hidden_features", "embedding_features", "edge_input_features", "triplet_input_features")
    for word in (f"--model.{name}", "8")
), "--model.alignn_layers", "1", "--model.gcn_layers", "1"]  # fmt: skip
FAST = [
    "--batch_size", "16", "--precision", "32", "--device", "cpu", "--jobs", "1", "--progress", "false",
]  # fmt: skip
MODELS = {
    "values": ["train", *TINY],
    "classes": ["train", *TINY, "--classification_threshold", "80"],
    "ensemble": ["train", *TINY, "--ensemble", "2"],
    "log10": ["train", *TINY_ALIGNN, "--target_transform", "log10"],
    "gatgnn": ["train", "--model", "gatgnn", *TINY[2:], "--model.heads", "2"],
    "encoder": ["pretrain", *TINY[:4]],
}
ALIGNN_CONFIG = {
    "version": "112bbedebdaecf59fb18e11c929080fb2f358246", "dataset": "user_data", "target": "target",
    "atom_features": "cgcnn", "neighbor_strategy": "k-nearest", "id_tag": "jid", "dtype": "float32", "random_seed": 123,
    "classification_threshold": None, "n_val": None, "n_test": None, "n_train": None, "train_ratio": 0.8,
    "val_ratio": 0.1, "test_ratio": 0.1, "target_multiplication_factor": None, "epochs": 3, "batch_size": 2,
    "weight_decay": 1e-05, "learning_rate": 0.001, "warmup_steps": 2000, "criterion": "l1", "optimizer": "adamw",
    "scheduler": "onecycle", "pin_memory": False, "save_dataloader": False, "write_checkpoint": True,
    "num_workers": 0, "cutoff": 8.0, "max_neighbors": 12, "keep_data_order": False, "use_canonize": True,
    "model": {
        "name": "alignn", "alignn_layers": 4, "gcn_layers": 4, "atom_input_features": 92, "edge_input_features": 80,
        "triplet_input_features": 40, "embedding_features": 64, "hidden_features": 256, "output_features": 1,
        "link": "identity", "zero_inflated": False, "classification": False,
    },
}  # fmt: skip

BENCHMARK = "AI-SinglePropertyPrediction-K_VRH-sample-test-mae"
TASK, ALGORITHM = "matbench_jdft2d", "small"


class Checkpoint(NamedTuple):
    """What other code has saved of a model, by its names, and settings for its conversion."""

    code: str
    content: dict[str, Any]
    settings: dict[str, Any]


def of_cgcnn(code: str) -> Checkpoint:
    """Of a small CGCNN, or of CrysXPP or CrysGNN, which have its names."""
    name = "crysxpp" if code == "crysxpp" else "cgcnn"
    network = build_network(TrainingConfig(model={"name": name, "conv_layers": 1, "node_features": 8}), 1)
    weights = {cgcnn.original_name(key): value for key, value in network.state_dict().items()}
    graph = {"cutoff": 8.0, "max_neighbors": 12}
    if code == "crysgnn":
        encoder = {key: value for key, value in weights.items() if key.startswith(("embedding.weight", "convs."))}
        return Checkpoint(code, {"state_dict": encoder}, graph)
    normalizer = {"mean": torch.tensor(0.5), "std": torch.tensor(2.0)}
    content = {"epoch": 3, "state_dict": weights, "best_mae_error": 0.1, "normalizer": normalizer}
    return Checkpoint(code, content, {"target_key": "K", **graph})


def of_alignn(name: str, norm: str) -> Checkpoint:
    """Of a small ALIGNN."""
    sizes = {"hidden_features": 8, "embedding_features": 8, "alignn_layers": 1, "gcn_layers": 1}
    network = build_network(TrainingConfig(model={"name": "alignn", "norm": norm, **sizes}), 1)
    weights = {alignn.original_name(key): value for key, value in network.state_dict().items()}
    only_values = {"calculate_gradient": False, "energy_mult_natoms": False, "use_penalty": True}
    model = {**ALIGNN_CONFIG["model"], **sizes, "name": name, **only_values, "penalty_threshold": 1}
    return Checkpoint("alignn", {"model": weights}, {**ALIGNN_CONFIG, "model": model})


@dataclass(frozen=True)
class Originals:
    """What is mutated; models are trained into a folder, which keeps them.

    Args:
        folder: for the models.
    """

    folder: Path

    @cached_property
    def records(self) -> list[Record]:
        """The smallest of the sample crystals of different formulas."""
        records = [row.read() for row in open_source(SAMPLE_DATA).rows()]
        by_formula = {record.crystal.formula: record for record in records}
        return sorted(by_formula.values(), key=lambda record: (len(record.crystal), record.id))[:N_CRYSTALS]

    @cached_property
    def poscars(self) -> list[bytes]:
        """As they lie in the sample data, and the same with selective dynamics and in cartesian coordinates."""
        texts = [(SAMPLE_DATA / record.file).read_bytes() for record in self.records]
        crystals = [record.crystal for record in self.records]
        written = [_written(crystal, "vasp", direct=number % 2 == 0) for number, crystal in enumerate(crystals)]
        return texts + [text.replace(b"\nDirect", b"\nSelective dynamics\nDirect") for text in texts[::3]] + written

    @cached_property
    def cifs(self) -> list[bytes]:
        """With every atom of the cell, and with the operations of the space group."""
        from pymatgen.core import Lattice, Structure
        from pymatgen.io.cif import CifWriter

        texts = []
        for record in self.records:
            crystal = record.crystal
            structure = Structure(Lattice(crystal.lattice), crystal.elements, crystal.frac_coords)
            texts += [_written(crystal, "cif"), str(CifWriter(structure, symprec=0.01)).encode()]
        return texts

    @cached_property
    def xyz(self) -> list[bytes]:
        """Extended xyz with a lattice."""
        return [_written(record.crystal, "extxyz") for record in self.records]

    @cached_property
    def tables(self) -> list[bytes]:
        """``id_prop.csv`` of the kinds that are read, of the first few records."""
        few = self.records[:6]
        lines = {
            "plain": [f"{record.id},{record.targets[0]}" for record in few],
            "files": [f"{record.file}, {record.targets[0]}" for record in few],
            "header": ["jid,K_VRH", *(f"{record.id},{record.targets[0]}" for record in few)],
            "two": ["id,K,G", *(f"{record.id},{record.targets[0]},{len(record.crystal)}" for record in few)],
            "texts": [
                "id,target,description",
                *(f'{record.id},{record.targets[0]},"A crystal, of {record.crystal.formula}"' for record in few),
            ],
            "crysmmnet": [f'{r.id},{r.crystal.formula},{r.targets[0]},"It is, or ""was"", cubic."' for r in few],
        }
        return [("\n".join(table) + "\n").encode() for table in lines.values()]

    @cached_property
    def rows(self) -> list[list[dict[str, Any]]]:
        """Tables of rows that hold their structure, in JARVIS' form and in ours."""
        few = self.records[:5]
        ours = [
            {"id": record.id, "K": record.targets[0], **_arrays(record.crystal), "elements": record.crystal.elements}
            for record in few
        ]
        jarvis = [
            {"jid": record.id, "K": record.targets[0], "spg": "12", "gap": [0.1, 2], "atoms": atoms.to_dict()}
            for record, atoms in ((record, record.crystal.to_jarvis()) for record in few)
        ]
        return [ours, jarvis]

    @cached_property
    def configs(self) -> list[dict[str, Any]]:
        """Settings of ours and of ALIGNN."""
        files = sorted((CHECKOUT / "examples" / "reproduce").glob("*.json"))
        read = [json.loads(path.read_text()) for path in files if path.name != "published.json"]
        heads: list[Mapping[str, Any]] = [
            {"head": {"name": "distilled", "teacher": "crysae-mp", "delta": [0.2, "rising"]}},
            {"head": {"name": "multimodal", "encoder": "minilm", "descriptions": "d.jsonl"}, "target_key": "K,G"},
            {"milestones": [10, 20], "scheduler": "multistep", "optimizer": "sgd", "ids_file": "ids.json"},
        ]
        ours = [TrainingConfig(model={"name": name}).model_dump(mode="json") for name in ("cgcnn", "alignn", "gatgnn")]
        return [*read, *map(dict, heads), *ours, PretrainingConfig().model_dump(mode="json"), ALIGNN_CONFIG]

    def models(self) -> dict[str, Path]:
        """Folders of small trained models, one of each kind."""
        for name, command in MODELS.items():
            output = self.folder / name
            if not (output / "metrics.json").exists():
                options = ["--root_dir", str(SAMPLE_DATA), "--limit", "60", "--n_val", "15", "--n_test", "5"]
                options += ["--cache_dir", str(self.folder / "cache"), "--output_dir", str(output), "--overwrite"]
                if main([*command, *options, "--epochs", "2", *FAST]):
                    raise SystemExit(f"{name} could not be trained")
        return {name: self.folder / name for name in MODELS}

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """Of each code that models are converted from."""
        convolutional = [of_cgcnn(code) for code in ("cgcnn", "crysxpp", "crysgnn")]
        return [*convolutional, of_alignn("alignn", "batch"), of_alignn("alignn_atomwise", "layer")]

    @cached_property
    def benchmark(self) -> dict[str, dict[str, float]]:
        """The split and the values of the models, as the JARVIS-Leaderboard distributes them."""
        targets = {record.id: record.targets[0] for record in (row.read() for row in open_source(SAMPLE_DATA).rows())}
        split = json.loads((self.models()["values"] / "ids_train_val_test.json").read_text())
        return {name: {id_: targets[id_] for id_ in split[f"id_{name}"]} for name in ("train", "val", "test")}

    @cached_property
    def folds(self) -> dict[str, Any]:
        """One fold of a task of Matbench, of the first few records."""
        ids = [record.id for record in self.records[:16]]
        return {"metadata": {"n_splits": 1}, "splits": {TASK: {"fold_0": {"train": ids[4:], "test": ids[:4]}}}}

    def submission(self) -> Path:
        """A folder with crystals (``data``), ``folds.json``, and what ``crysmm matbench`` has made of them."""
        folder = self.folder / "submission"
        if not (folder / "output" / f"matbench_v0.1_{ALGORITHM}" / "results.json.gz").exists():
            (folder / "data").mkdir(parents=True, exist_ok=True)
            self.write_good(folder / "data", 16)
            table = "".join(f"{record.file},{record.targets[0]}\n" for record in self.records[:16])
            (folder / "data" / "id_prop.csv").write_text(table)
            write_json_atomic(folder / "folds.json", self.folds)
            if main([*submitting(folder / "data", folder / "folds.json", folder), "--overwrite"]):
                raise SystemExit(f"{TASK} could not be trained on")
        return folder

    def write_good(self, folder: Path, count: int) -> list[str]:
        """Put structure files into a folder; their names are returned."""
        for record in self.records[:count]:
            write_text_atomic(folder / record.file, (SAMPLE_DATA / record.file).read_text())
        return [record.file for record in self.records[:count]]


def submitting(data: Path, folds: Path, folder: Path) -> list[str]:
    """The command that trains on the folds, an epoch each, and writes to the ``output`` and ``cache`` of a folder."""
    places = ["--root_dir", str(data), "--folds", str(folds), "--output_dir", str(folder / "output")]
    options = ["--algorithm", ALGORITHM, "--cache_dir", str(folder / "cache"), "--epochs", "1", *TINY, *FAST]
    return ["matbench", "--task", TASK, *places, *options]


def _arrays(crystal: Crystal) -> dict[str, Any]:
    return {"lattice_mat": crystal.lattice.tolist(), "frac_coords": crystal.frac_coords.tolist()}


def _written(crystal: Crystal, file_format: str, **options: Any) -> bytes:
    from ase import Atoms
    from ase.io import write

    atoms = Atoms(crystal.elements, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
    stream = io.BytesIO() if file_format == "cif" else io.StringIO()
    write(stream, atoms, format=file_format, **options)
    text = stream.getvalue()
    return text if isinstance(text, bytes) else text.encode()
