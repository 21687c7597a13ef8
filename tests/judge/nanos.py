"""Moments finer than microseconds, and moments with an offset, as others see them: python-tds for SQL Server, pyarrow for files.

    nanos.py fill PORT TABLE [sentinels]     makes a table of such moments
    nanos.py table PORT TABLE                prints its rows as JSON, each moment as the server's own text
    nanos.py parquet FILE                    prints types and rows of a file as JSON, moments as integers or texts
"""

import json
import sys

LOGIN, PASSWORD = "sa", "Fixture-Password-1"
# Moment, time of day, moment with an offset.
ROWS = [
    ("2024-02-29 12:34:56.1234567", "23:59:59.9999999", "2024-02-29 00:30:00.1234567 +05:30"),
    ("1969-12-31 23:59:59.9999999", "00:00:00.0000001", "1969-12-31 23:59:59.9999999 -03:30"),
    ("1677-09-21 00:12:43.1452242", "12:00:00.0000000", "0001-01-02 00:00:00.0000001 +14:00"),
    ("2262-04-11 23:47:16.8547758", "00:00:00.1234560", "9999-12-30 23:59:59.9999999 -14:00"),
    (None, None, None),
]
# What tables that keep versions hold in every row.
SENTINELS = [
    ("9999-12-31 23:59:59.9999999", "00:00:00.0000000", "9999-12-31 23:59:59.9999999 +00:00"),
    ("0001-01-01 00:00:00.0000000", "00:00:00.0000000", "0001-01-01 00:00:00.0000000 +00:00"),
]


def connect(port):
    import pytds

    return pytds.connect("127.0.0.1", "fixture", LOGIN, PASSWORD, port=int(port), autocommit=True)


def fill(port, table, *more):
    with connect(port) as connection:
        cursor = connection.cursor()
        columns = "fine datetime2(7) NULL, clock time(7) NULL, zoned datetimeoffset(7) NULL"
        cursor.execute(f"CREATE TABLE {table} (id int NOT NULL PRIMARY KEY, {columns})")
        rows = [] if more == ("empty",) else ROWS + (SENTINELS if more == ("sentinels",) else [])
        for number, row in enumerate(rows, 1):
            values = ", ".join("NULL" if value is None else f"'{value}'" for value in row)
            cursor.execute(f"INSERT INTO {table} VALUES ({number}, {values})")


def table(port, name):
    with connect(port) as connection:
        cursor = connection.cursor()
        texts = ", ".join(f"CONVERT(nvarchar(40), {column}, 121)" for column in ("fine", "clock", "zoned"))
        cursor.execute(f"SELECT id, {texts} FROM {name} ORDER BY id")
        print(json.dumps([list(row) for row in cursor.fetchall()]))


def parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    read = pq.read_table(path).sort_by("id")
    columns = []
    for column in read.columns:
        moment = pa.types.is_timestamp(column.type) or pa.types.is_time(column.type)
        columns.append(column.cast(pa.int64()).to_pylist() if moment else column.to_pylist())
    print(json.dumps({"types": [str(field.type) for field in read.schema], "rows": [list(row) for row in zip(*columns)]}))


if __name__ == "__main__":
    {"fill": fill, "table": table, "parquet": parquet}[sys.argv[1]](*sys.argv[2:])
