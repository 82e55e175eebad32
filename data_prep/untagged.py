r"""Make a set of structures without properties to pre-train on, from the Materials Project and OQMD through JARVIS.

    python -m data_prep.untagged --output untagged.jsonl.gz
    python -m data_prep.untagged --mp all_mp.json.zip --oqmd all_oqmd.json.zip --output untagged.jsonl.gz \
        --leave_out mp.jsonl.gz run/ids_train_val_test.json --leave_out jarvis_test_folder

About 127,000 structures from ``mp_3d_2020``, then 810,000 from ``oqmd_3d_no_cfid``, without duplicates (see
data_prep/structure_index.py). ``--leave_out`` names test sets whose structures are left out: any input of crysmm, all
of it or, if an ids_train_val_test.json follows, the ids under id_test. A row has ``id``, ``source``, ``space_group``
(0: not found) and the structure. If it is killed, the same command continues; its parts are in a folder next to the
output.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from crysmm.cli.options import positive
from crysmm.data.space_groups import describe_symmetry
from crysmm.data.split import read_ids
from crysmm.errors import InputError, StructureError
from crysmm.files import file_sha256
from crysmm.io.inputs import open_source
from crysmm.io.source import Record
from crysmm.progress import progress_bar
from data_prep.convert import readable_records
from data_prep.deduplicate import check_output, deduplicate
from data_prep.files import run_command
from data_prep.jarvis_figshare import fetch
from data_prep.structure_index import NEARLY_SAME, SAME, StructureIndex, structure_key

LARGEST_SYMPREC = 0.5  # Angstrom; beyond, moyo takes minutes per crystal
MP, OQMD = "mp_3d_2020", "oqmd_3d_no_cfid"
CITATIONS = "Jain et al., APL Mater. 1, 011002 (2013); Kirklin et al., npj Comput. Mater. 1, 15010 (2015)"


def read_test_set(data: Path, ids_file: Path | None) -> Iterator[Record]:
    """Yield the structures of a test set.

    Args:
        data: Any input of crysmm.
        ids_file: File whose ``id_test`` lists the test set; None for all structures.

    Raises:
        InputError: An id is not in the data, or its row cannot be read.
    """
    missing = None if ids_file is None else set(read_ids(ids_file)["id_test"])
    source = open_source(data, needs_targets=False)
    for record in progress_bar(f"reading {data}", source.n_rows, "rows", readable_records(source)):
        if missing is None:
            yield record
        elif record.id in missing:
            missing.remove(record.id)
            yield record
    if missing:
        raise InputError(f"{len(missing)} ids of id_test in {ids_file} have no readable row in {data}: {min(missing)}")


def index_test_sets(named: Sequence[tuple[Path, Path | None]]) -> StructureIndex:
    """Index the structures of all test sets; those with overlapping atoms are printed, as no result contains them."""
    index = StructureIndex(NEARLY_SAME)
    for record in chain.from_iterable(read_test_set(data, ids_file) for data, ids_file in named):
        try:
            index.add(structure_key(record.crystal))
        except StructureError as error:
            print(f"cannot be compared: {record.id} ({record.file}): {error}", file=sys.stderr)
    return index


def sha256(path: Path) -> str:
    """Return the checksum of a file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def read_arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mp", type=Path, help=f"the .json.zip of {MP}, downloaded already")
    parser.add_argument("--oqmd", type=Path, help=f"the .json.zip of {OQMD}, downloaded already")
    parser.add_argument(
        "--leave_out", action="append", nargs="+", type=Path, default=[], metavar="PATH",
        help="a test set, and optionally an ids_train_val_test.json that selects from it; may be given several times",
    )  # fmt: skip
    parser.add_argument("--symprec", type=float, default=0.01, help="tolerance of the space groups, Angstrom (0.01)")
    parser.add_argument("--jobs", type=positive, help="number of processes; by default one per core")
    parser.add_argument("--output", required=True, type=Path, help="NAME.jsonl.gz")
    arguments = parser.parse_args()
    if any(len(paths) > 2 for paths in arguments.leave_out):
        parser.error("--leave_out takes one test set and at most one file of ids; repeat it for another test set")
    if not 0 < arguments.symprec <= LARGEST_SYMPREC:
        parser.error(
            f"--symprec is {arguments.symprec}; expected a length above 0 and up to {LARGEST_SYMPREC} Angstrom"
        )
    return arguments


def main() -> None:
    """Run the command."""
    arguments = read_arguments()
    check_output(arguments.output)  # before gigabytes are downloaded
    folder = arguments.output.parent
    archives = {MP: arguments.mp or fetch(MP, folder), OQMD: arguments.oqmd or fetch(OQMD, folder)}
    named = [(paths[0], paths[1] if len(paths) == 2 else None) for paths in arguments.leave_out]
    report = deduplicate(
        archives,
        arguments.output,
        left_out=index_test_sets(named),
        settings={
            "archives": {name: sha256(path) for name, path in archives.items()},
            "leave_out": [
                [open_source(data, needs_targets=False).fingerprint(), "" if ids_file is None else sha256(ids_file)]
                for data, ids_file in named
            ],
            "tolerances": [SAME, NEARLY_SAME],
        },
        symprec=arguments.symprec,
        jobs=arguments.jobs,
    )
    print(report)
    if len(report.space_groups):
        print(describe_symmetry(report.space_groups))
    print(f"{len(report.space_groups)} structures in {arguments.output}; cite {CITATIONS}")


if __name__ == "__main__":
    run_command(main)
