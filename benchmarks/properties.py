r"""What distillation and pre-training are worth on small tables of other properties than an encoder's crystals have.

    python -m benchmarks.properties run --tables DIR --pretraining_data mp_formation_energy_30000.jsonl.gz \
        --work DIR --arms cgcnn "cgcnn distilled from crysgnn" --seeds 1,2,3
    python -m benchmarks.properties report --work DIR

The tables are those of ``python -m data_prep.matminer_tables``. Each seed has a random split of its own, 80/10/10,
the same for all arms. Encoders are those of ``benchmarks.few_labels``; with its --work they are made once.
"""

import argparse
from pathlib import Path

from benchmarks.study import ARMS, Study, read_results, table

PROPERTIES = {
    "log10 K": ("matminer_elastic_1181.jsonl.gz", ["--target_key", "K_VRH", "--target_transform", "log10"]),
    "log10 G": ("matminer_elastic_1181.jsonl.gz", ["--target_key", "G_VRH", "--target_transform", "log10"]),
    "band gap": ("matminer_dielectric_1056.jsonl.gz", ["--target_key", "band_gap"]),
}


def main() -> None:
    """Read the command line; run or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do what is not done yet")
    run.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    run.add_argument("--pretraining_data", type=Path, required=True, help="JSONL file encoders are made from")
    run.add_argument("--arms", nargs="+", required=True, choices=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    run.add_argument("--properties", nargs="+", default=list(PROPERTIES), choices=list(PROPERTIES), metavar="PROPERTY")
    run.add_argument("--seeds", default="1,2,3")
    run.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (1)")
    report = commands.add_parser("report", help="print the table")
    for command in (run, report):
        command.add_argument("--work", type=Path, required=True, help="folder of all runs")
        command.add_argument("--results", type=Path, help="CSV file of their errors (properties.csv in that folder)")
    arguments = parser.parse_args()
    results = arguments.results or arguments.work / "properties.csv"
    if arguments.command == "report":
        print(table(read_results(results)))
        return
    tasks = {
        name: ["--root_dir", str(arguments.tables / PROPERTIES[name][0]), *PROPERTIES[name][1]]
        for name in arguments.properties
    }
    study = Study(arguments.work, results, arguments.pretraining_data, tasks, arguments.jobs)
    study.run(arguments.arms, list(map(int, arguments.seeds.split(","))))


if __name__ == "__main__":
    main()
