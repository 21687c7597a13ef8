"""Writes a Parquet file of long texts with pyarrow, whose values stand in dictionaries.

long_values.py FILE BYTES ROWS GROUPS     ROWS texts of BYTES each in every one of GROUPS row groups
"""

import random
import sys

import pyarrow
import pyarrow.parquet

LETTERS = bytes(65 + byte % 32 for byte in range(256))


def main():
    path, size, rows, groups = sys.argv[1], *map(int, sys.argv[2:])
    dice = random.Random(7)
    schema = pyarrow.schema([("id", pyarrow.int64()), ("t", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(path, schema) as file:
        for group in range(groups):
            texts = [dice.randbytes(size).translate(LETTERS).decode() for _ in range(rows)]
            ids = list(range(group * rows, (group + 1) * rows))
            file.write_table(pyarrow.table([ids, texts], schema=schema))


main()
