"""What other programs make of our files, and files of theirs for us. Used by foreign.rs; knows nothing of our code.

usage: foreign.py read-parquet FILE | write-parquet FOLDER | read-csv FILE | write-csv FILE
"""

import csv
import datetime
import decimal
import json
import struct
import sys


def raw(value, kind):
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_float32(kind):
        return struct.pack(">f", value).hex()
    if pa.types.is_float64(kind):
        return struct.pack(">d", value).hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    return str(value)


def read_parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    table = file.read()
    types = [str(file.schema.column(i).logical_type) for i in range(len(table.column_names))]
    columns = []
    for column in table.columns:
        kind = column.type
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks])
            kind = column.type
        if pa.types.is_date32(kind):
            column = column.cast(pa.int32())
        elif pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
            column = column.cast(pa.int64())
        columns.append([raw(value, kind) for value in column.to_pylist()])
    counts = None
    try:
        import duckdb

        counts = duckdb.execute(f"select count(*), count(uuid) from read_parquet('{path}')").fetchone()
    except ImportError:
        pass
    print(json.dumps({"names": table.column_names, "types": types, "columns": columns, "duckdb": counts}))


def write_parquet(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    when = datetime.datetime(2024, 2, 29, 12, 34, 56, 789000)
    columns = {
        "large": pa.array(["a", None, "é"], pa.large_string()),
        "view": pa.array(["x", None, "a longer text than fits inline"], pa.string_view()),
        "coded": pa.array(["r", "g", None]).dictionary_encode(),
        "fixed": pa.array([b"12345", None, b"67890"], pa.binary(5)),
        "sixteen": pa.array([b"0123456789abcdef", None, b"0123456789abcdef"], pa.binary(16)),
        "millis": pa.array([when, None, when], pa.timestamp("ms")),
        "nanos": pa.array([when, None, when], pa.timestamp("ns", "Europe/Paris")),
        "seconds": pa.array([when, None, when], pa.timestamp("s", "UTC")),
        "time32": pa.array([when.time(), None, when.time()], pa.time32("ms")),
        "time64": pa.array([when.time(), None, when.time()], pa.time64("ns")),
        "decimal256": pa.array([decimal.Decimal("1.500"), None, decimal.Decimal("-0.001")], pa.decimal256(50, 3)),
        "decimal128": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-0.01")], pa.decimal128(20, 2)),
        "half": pa.array([0.5, None, -2.0], pa.float16()),
        "nothing": pa.array([None, None, None], pa.null()),
        "unsigned": pa.array([0, None, 2**64 - 1], pa.uint64()),
    }
    pq.write_table(pa.table(columns), f"{folder}/foreign.parquet", row_group_size=2)
    pq.write_table(pa.table({"ok": [1], "deep": [[1, 2]]}), f"{folder}/nested.parquet")
    fine = pa.table({"fine": pa.array([1000, 1, 2**63 - 1], pa.timestamp("ns"))})
    pq.write_table(fine, f"{folder}/fine.parquet")
    old = pa.table({"id": [1, 2, 3], "old": pa.array([2**63 - 1, None, -1], pa.timestamp("ns"))})
    pq.write_table(old, f"{folder}/old.parquet", use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none")
    with open(f"{folder}/old.parquet", "rb") as file:
        content = file.read()
    # The last moment of a table that keeps versions: nanoseconds of the day, Julian day.
    last = struct.pack("<qi", 86_399_999_999_900, 5_373_484)
    first = struct.pack("<qi", (2**63 - 1) % 86_400_000_000_000, 2_440_588 + (2**63 - 1) // 86_400_000_000_000)
    assert content.count(first) >= 1
    with open(f"{folder}/old.parquet", "wb") as file:
        file.write(content.replace(first, last))
    # A row group without rows, whose chunks are nowhere.
    pq.write_table(pa.table({"id": pa.array([], pa.int32()), "name": pa.array([], pa.string())}), f"{folder}/empty.parquet")


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        print(json.dumps(list(csv.reader(file))))


ROWS = [["id", "text"], ["1", 'a "quoted", text\r\nover lines'], ["2", ""], ["3", "😀"]]


def write_csv(path):
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(ROWS)


if __name__ == "__main__":
    actions = {f.__name__.replace("_", "-"): f for f in (read_parquet, write_parquet, read_csv, write_csv)}
    actions[sys.argv[1]](sys.argv[2])
