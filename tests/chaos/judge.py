"""The judge: reads what a target holds with other people's drivers, and boils it down to what must be right: number of
rows, doubled and lost keys, and one order-free sum per column in which every value is tied to its row's key."""

import hashlib
import io
import os
import sqlite3

COLUMNS = ("id", "batch", "label", "amount", "at")


def number(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class Content:
    """Rows in a form that can be compared. `keys` is how often each key occurs."""

    def __init__(self, rows):
        self.rows = 0
        self.keys = {}
        self.sums = [0] * len(COLUMNS)
        for row in rows:
            self.rows += 1
            key = f"{row[0]}|"
            self.keys[row[0]] = self.keys.get(row[0], 0) + 1
            for index, value in enumerate(row):
                self.sums[index] = (self.sums[index] + number(key + text(value))) % (1 << 64)

    def __eq__(self, other):
        return isinstance(other, Content) and (self.rows, self.sums, self.keys) == (other.rows, other.sums, other.keys)

    def __add__(self, other):
        both = Content(())
        both.rows = self.rows + other.rows
        both.keys = dict(self.keys)
        for key, count in other.keys.items():
            both.keys[key] = both.keys.get(key, 0) + count
        both.sums = [(a + b) % (1 << 64) for a, b in zip(self.sums, other.sums)]
        return both

    def difference(self, wanted):
        """How this differs from what was wanted, in words."""
        if not isinstance(wanted, Content):
            return f"{self.rows} rows where nothing was expected"
        doubled = sum(1 for key, count in self.keys.items() if count > wanted.keys.get(key, 0))
        lost = sum(1 for key, count in wanted.keys.items() if count > self.keys.get(key, 0))
        columns = [name for name, mine, theirs in zip(COLUMNS, self.sums, wanted.sums) if mine != theirs]
        return (
            f"{self.rows} rows instead of {wanted.rows}, {doubled} keys too many, {lost} lost, "
            f"columns that differ: {', '.join(columns) or 'none'}"
        )


def text(value):
    if value is None:
        return "\0null"
    if hasattr(value, "isoformat"):
        return value.isoformat(sep=" ")
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value)


ABSENT = "absent"


def say(content, wanted):
    if content == ABSENT or wanted == ABSENT:
        return f"{'absent' if content == ABSENT else f'{content.rows} rows'}, wanted " + (
            "absent" if wanted == ABSENT else f"{wanted.rows} rows"
        )
    return content.difference(wanted)


def parquet_rows(table):
    return zip(*(table.column(name).to_pylist() for name in COLUMNS))


def parquet_file(path):
    import pyarrow.parquet as parquet

    if not os.path.exists(path):
        return ABSENT
    return Content(parquet_rows(parquet.read_table(path)))


def parquet_bytes(data):
    import pyarrow.parquet as parquet

    return Content(parquet_rows(parquet.read_table(io.BytesIO(data))))


def postgres(connect, table):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", (table,))
        if cursor.fetchone()[0] is None:
            return ABSENT
        cursor.execute(f"SELECT {', '.join(COLUMNS)} FROM {table}")
        return Content(cursor)


def mariadb(connect, table):
    connection = connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = %s",
                (table,),
            )
            if cursor.fetchone()[0] == 0:
                return ABSENT
            cursor.execute(f"SELECT {', '.join(f'`{name}`' for name in COLUMNS)} FROM `{table}`")
            return Content(cursor)
    finally:
        connection.close()


def sqlite(path, table):
    import datetime
    import decimal

    def typed(rows):
        for row in rows:
            at = row[4]
            if isinstance(at, str):
                at = datetime.datetime.fromisoformat(at.replace("T", " ").rstrip("Z"))
            yield (*row[:3], decimal.Decimal(str(row[3])).quantize(decimal.Decimal("0.01")), at)

    connection = sqlite3.connect(path, timeout=30)
    try:
        found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        return Content(typed(connection.execute(f"SELECT {', '.join(COLUMNS)} FROM {table}"))) if found else ABSENT
    finally:
        connection.close()
