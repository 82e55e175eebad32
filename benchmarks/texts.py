r"""Measure the effect of descriptions: backbones without text, with it, and with controls that show why.

    python -m benchmarks.texts run --tables DIR --descriptions DIR --work DIR \
        --arms cgcnn "cgcnn with text" "cgcnn with shuffled text" "cgcnn with the space group" --seeds 1,2,3
    python -m benchmarks.texts report --work DIR

The tables are those of ``python -m data_prep.matminer_tables``; the folder of descriptions has what ``crysmm describe``
wrote of each, under the table's name (``matminer_elastic_1181.jsonl``). Each seed has a random split of its own,
80/10/10, the same for all arms. The controls are files of descriptions, read as the texts are: one with the texts
dealt out to other crystals, and one in which of each text the words on the crystal system and the space group alone
are left. "text alone" sees no graph: a ridge regression on the embeddings of the texts. For another text encoder
(``--encoder FOLDER``) give another --work.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.properties import PROPERTIES
from benchmarks.study import ARMS, ENCODERS, OF_SEVERAL, TEXT_ALONE, Results, Study, command_line, read_results, table
from crysmm.cli.options import CommandParser, add_config_options, config_from
from crysmm.config import TrainingConfig
from crysmm.data.split import make_split
from crysmm.io.inputs import open_input
from crysmm.io.source import Record, SkippedRow
from crysmm.text.descriptions import Description, read_descriptions, write_descriptions
from crysmm.text.embeddings import embed_texts
from crysmm.text.encoder import TextEncoder

TASKS = {
    **PROPERTIES,
    "formation energy": ("matminer_formation_3938.jsonl.gz", ["--target_key", "formation_energy_per_atom"]),
}
SEED_OF_SHUFFLING = 1
SPACE_GROUP = re.compile(r"crystallizes in the (\w+ \S+) space ?group")  # as either describer writes it
PENALTIES = np.logspace(-1, 5, 13)


@dataclass
class TextStudy(Study):
    """Study whose arms may read texts.

    Args:
        texts: File of descriptions by task, and by the key that arms have for their texts.
        encoder: Text encoder: ``minilm``, a folder or a hub name.
    """

    texts: dict[str, dict[str, Path]] = field(default_factory=dict)
    encoder: str = "minilm"

    def test_error(self, seed: int, task: str, arm: str) -> float:
        """Return the test MAE of one run; text alone needs no network, and has no folder."""
        if arm != TEXT_ALONE:
            return super().test_error(seed, task, arm)
        config = settings([*self.tasks[task], "--random_seed", str(seed)])
        return text_alone(config, self.texts[task]["own"], self.encoder)

    def options(self, task: str, arm: str) -> list[str]:
        """Return the options of an arm, with the head that reads its texts."""
        text = ARMS[arm].text
        if text is None:
            return super().options(task, arm)
        return [*reading(self.texts[task][text], self.encoder), *super().options(task, arm)]


def main() -> None:
    """Run what has no result yet, or print the table."""
    arms = [name for name, arm in ARMS.items() if arm.encoder not in ENCODERS and name not in OF_SEVERAL]
    parser, run = command_line(__doc__, "texts.csv", arms)
    run.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    run.add_argument("--descriptions", type=Path, required=True, help="folder of their descriptions")
    run.add_argument("--encoder", default="minilm", help="text encoder: minilm, a folder or a hub name (minilm)")
    run.add_argument("--properties", nargs="+", default=list(TASKS), choices=list(TASKS), metavar="PROPERTY")
    arguments = parser.parse_args()
    results = arguments.results or arguments.work / "texts.csv"
    if arguments.command == "report":
        print(table(read_results(results)))
        print(f"\nThe whole text against its space group alone:\n\n{table(*with_texts(read_results(results)))}")
        return
    tables = {name: arguments.tables / TASKS[name][0] for name in arguments.properties}
    study = TextStudy(
        arguments.work,
        results,
        None,  # no arm's encoder is to be made
        {name: ["--root_dir", str(path), *TASKS[name][1]] for name, path in tables.items()},
        arguments.jobs,
        texts={
            name: make_texts(arguments.descriptions / f"{table_name(path)}.jsonl", arguments.work / "descriptions")
            for name, path in tables.items()
        },
        encoder=arguments.encoder,
    )
    study.run(arguments.arms, arguments.seeds)


def table_name(path: Path) -> str:
    """Return the name of a file without its endings."""
    return path.name.split(".")[0]


def with_texts(results: Results) -> tuple[Results, Callable[[str], str | None]]:
    """Return the arms with text or its space group, and the reference of each arm, for :func:`table`."""
    whole, part = " with text", " with the space group"
    chosen = {arm: maes for arm, maes in results.items() if arm.endswith((whole, part))}
    return chosen, lambda arm: arm.removesuffix(whole) + part if arm.endswith(whole) else None


def make_texts(own: Path, folder: Path) -> dict[str, Path]:
    """Write the texts and the controls; return their paths by the name that arms use.

    Args:
        own: File of descriptions.
        folder: Folder for the files of the controls.

    Raises:
        SystemExit: a text names no space group.
    """
    rows = list(read_descriptions(own).values())
    files = {"own": own}
    for name, control in (("shuffled", shuffled(rows)), ("space group", space_groups(rows))):
        files[name] = folder / f"{own.stem}_{name.replace(' ', '_')}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        write_descriptions(files[name], control)
    return files


def reading(descriptions: Path, encoder: str = "minilm") -> list[str]:
    """Return the options of ``crysmm train`` for the head that reads descriptions."""
    return ["--head", "multimodal", "--head.encoder", encoder, "--head.descriptions", str(descriptions)]


def shuffled(rows: Sequence[Description]) -> list[Description]:
    """Shuffle the texts among the crystals that have one, with a fixed seed; none keeps its own."""
    described = [row for row in rows if row.text is not None]
    order = np.random.default_rng(SEED_OF_SHUFFLING).permutation(len(described))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)  # around a circle
    return [
        replace(row, text=described[place].text, reason=f"the text of {described[place].id}")
        for row, place in zip(described, other, strict=True)
    ]


def space_groups(rows: Sequence[Description]) -> list[Description]:
    """Cut each text to crystal system and space group: "cubic Fm-3m space group"."""
    cut = []
    for row in rows:
        if row.text is not None:
            found = SPACE_GROUP.search(row.text)
            if found is None:
                raise SystemExit(f"the text of {row.id} names no space group: {row.text[:100]}")
            cut.append(replace(row, text=f"{found[1]} space group", reason="the space group of the text alone"))
    return cut


def settings(options: Sequence[str]) -> TrainingConfig:
    """Parse options as ``crysmm train`` does."""
    parser = CommandParser("crysmm train")
    add_config_options(parser)
    config, _ = config_from(TrainingConfig, parser.parse_args(list(options)))
    return config


def text_alone(config: TrainingConfig, descriptions: Path, encoder: str) -> float:
    """Return the test MAE of a ridge regression whose penalty is chosen on the validation split.

    Args:
        config: Settings of the data, the target and the split.
        descriptions: File of the texts; a crystal without one has the mean of the others.
        encoder: Text encoder: ``minilm``, a folder or a hub name.
    """
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    records = read_records(config)
    targets = np.array([record.targets[0] for record in records])
    if config.target_transform == "log10":
        targets = np.log10(targets)
    split = make_split(config, [record.id for record in records], [record.crystal.formula for record in records])
    texts = {name: row.text for name, row in read_descriptions(descriptions).items() if row.text is not None}
    ours = [record.id for record in records if record.id in texts]
    reader = TextEncoder(encoder)
    by_id = dict(zip(ours, embed_texts([texts[name] for name in ours], reader, progress=False).values, strict=True))
    missing = np.full(reader.width, np.nan)
    features = np.stack([by_id.get(record.id, missing) for record in records])
    features = np.nan_to_num(StandardScaler().fit(features[split.train]).transform(features))
    errors = {}
    for penalty in PENALTIES:
        predictor = Ridge(alpha=penalty).fit(features[split.train], targets[split.train])
        distances = np.abs(predictor.predict(features) - targets)
        errors[distances[split.val].mean()] = distances[split.test].mean()
    return float(errors[min(errors)])


def read_records(config: TrainingConfig) -> list[Record]:
    """Return the rows that ``crysmm train`` uses, in its order."""
    return [row.read() for row in open_input(config, None).rows() if not isinstance(row, SkippedRow)]


if __name__ == "__main__":
    main()
