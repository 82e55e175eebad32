r"""Measure distillation, pre-training and universal potentials on small tables of other properties.

    python -m benchmarks.properties run --tables DIR --pretraining_data mp_formation_energy_30000.jsonl.gz \
        --work DIR --arms cgcnn "cgcnn distilled from crysgnn" "cgcnn fused with chgnet" --seeds 1,2,3
    python -m benchmarks.properties report --work DIR

The tables are those of ``python -m data_prep.matminer_tables``. Each seed has a random split of its own, 80/10/10,
the same for all arms. Encoders are those of ``benchmarks.few_labels``; with its --work they are made once.

Features of a potential are computed by the first run that needs them and found in the cache by the others: make a run
of "features of ... alone" before several at a time (``--jobs 2``), which would both compute them.

The potentials have seen energies of the Materials Project, from which these crystals are, but none of these properties.
"""

from pathlib import Path

from benchmarks.study import ARMS, ENCODERS, WITHOUT_TEXT, Study, command_line, read_results, table

PROPERTIES = {
    "log10 K": ("matminer_elastic_1181.jsonl.gz", ["--target_key", "K_VRH", "--target_transform", "log10"]),
    "log10 G": ("matminer_elastic_1181.jsonl.gz", ["--target_key", "G_VRH", "--target_transform", "log10"]),
    "band gap": ("matminer_dielectric_1056.jsonl.gz", ["--target_key", "band_gap"]),
    "refractive index": ("matminer_dielectric_1056.jsonl.gz", ["--target_key", "n"]),
}


def main() -> None:
    """Run what has no result yet, or print the table."""
    parser, run = command_line(__doc__, "properties.csv", WITHOUT_TEXT)
    run.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    run.add_argument("--pretraining_data", type=Path, help="JSONL file that encoders are made from, unless shipped")
    run.add_argument("--properties", nargs="+", default=list(PROPERTIES), choices=list(PROPERTIES), metavar="PROPERTY")
    arguments = parser.parse_args()
    results = arguments.results or arguments.work / "properties.csv"
    if arguments.command == "report":
        print(table(read_results(results)))
        return
    made = [arm for arm in arguments.arms if ARMS[arm].encoder in ENCODERS]
    if made and arguments.pretraining_data is None:
        parser.error(f"--pretraining_data: needed by {', '.join(made)}")
    tasks = {
        name: ["--root_dir", str(arguments.tables / PROPERTIES[name][0]), *PROPERTIES[name][1]]
        for name in arguments.properties
    }
    study = Study(arguments.work, results, arguments.pretraining_data, tasks, arguments.jobs)
    study.run(arguments.arms, arguments.seeds)


if __name__ == "__main__":
    main()
