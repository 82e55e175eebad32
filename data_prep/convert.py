"""Convert any input of crysmm to a folder of POSCAR files with id_prop.csv, or to a JSONL file.

    python -m data_prep.convert to-folder --input jarvis.jsonl.gz --property mbj_bandgap --output mbj_folder
    python -m data_prep.convert to-jsonl --input mbj_folder --output mbj.jsonl.gz

Rows are streamed, so that their number does not matter. Rows that cannot be read are printed and left out.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from crysmm.errors import StructureError
from crysmm.io.inputs import open_source
from crysmm.io.source import Record, SkippedRow, Source
from crysmm.io.table import crystal_row
from data_prep.files import run_command, write_folder, write_jsonl


def readable_records(source: Source) -> Iterator[Record]:
    """Yield the records of a source; rows that cannot be read are printed and left out."""
    for row in source.rows():
        # A row that cannot even be parsed comes as a SkippedRow; a structure that is unusable shows when it is read.
        if isinstance(row, SkippedRow):
            print(f"left out: {row.id} ({row.file}): {row.reason}", file=sys.stderr)
            continue
        try:
            yield row.read()
        except StructureError as error:
            print(f"left out: {row.id} ({row.file}): {error}", file=sys.stderr)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("direction", choices=("to-folder", "to-jsonl"))
    parser.add_argument("--input", required=True, type=Path, help="a folder or a file, as for crysmm train --root_dir")
    parser.add_argument("--property", help="the property to keep, if there are several")
    parser.add_argument("--output", required=True, type=Path, help="the folder, or NAME.jsonl or NAME.jsonl.gz")
    arguments = parser.parse_args()
    source = open_source(arguments.input, target_key=arguments.property)
    records = readable_records(source)
    if arguments.direction == "to-folder":
        entries = ((record.id, record.crystal, record.targets) for record in records)
        count = write_folder(entries, source.target_names, arguments.output)
    else:
        rows = (
            crystal_row(record.id, dict(zip(source.target_names, record.targets, strict=True)), record.crystal)
            for record in records
        )
        count = write_jsonl(rows, arguments.output)
    print(f"{count} crystals in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
