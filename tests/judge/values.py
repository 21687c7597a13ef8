"""Generated values through every ordered pair of stores, judged by foreign drivers.

    values.py DMG [--rows N] [--seed S] [--pairs postgres:parquet,...] [--folder PATH]

Each store gets one table with a column per type, filled by that store's own public driver with edge cases and values
drawn at random. `dmg copy --create-table` takes it to every other store; what the plan refuses is left out and listed,
everything else must be equal when read by the other store's public driver. A loss that the plan did not announce, a
copy that fails after its plan, or a value that differs ends the program with 1. Only columns finer than microseconds may
be stopped on the way, by the check that the plan announced; they are named. Prints one line per pair.

Stores: postgres, mariadb, sqlserver (each if its server is named in the environment), sqlite, parquet, csv. CSV knows no
types, so a CSV file is judged on its way back into a table like the one it came from. What arrives in SQL Server is read
by two unrelated clients.
"""

import argparse
import datetime as dt
import decimal
import json
import math
import os
import random
import re
import sqlite3
import struct
import subprocess
import sys
import tempfile
import uuid
from urllib.parse import urlparse

import values_sql_server

D = decimal.Decimal
decimal.getcontext().prec = 100
UTC = dt.timezone.utc

# --- values by family -----------------------------------------------------------------------------------------------

TEXTS = ["", " ", "a", "it's", '"quoted"', "back\\slash", "tab\tend", "line\nfeed", "cr\r\nlf", "\\N", "NULL", "null",
         "ÄÖÜß", "日本語", "😀 smile", "e\u0301", "a,b;c|d", "%_", "--", "\u00a0", "trailing ", " leading", "0", "-1", "1e5"]


def draw_text(r):
    if r.random() < 0.4:
        return r.choice(TEXTS)
    alphabet = "abcdefghijklmnopqrstuvwxyzABC 0123456789,;'\"\\\t\näöü€日😀"
    return "".join(r.choice(alphabet) for _ in range(r.randrange(1, 60)))


def draw_bytes(r):
    return r.choice([b"", b"\x00", b"\xff\x00\xff", b"\\N\t\n"]) if r.random() < 0.2 else r.randbytes(r.randrange(1, 50))


def draw_int(low, high):
    def draw(r):
        return r.choice([low, high, 0, 1, max(low, -1), low + 1, high - 1]) if r.random() < 0.2 else r.randint(low, high)
    return draw


def draw_decimal(precision, scale):
    def draw(r):
        top = 10**precision - 1
        digits = r.choice([0, 1, top, top - 1]) if r.random() < 0.15 else r.randrange(10 ** r.randrange(1, precision + 1))
        return D(-digits if r.random() < 0.5 else digits).scaleb(-scale)
    return draw


def draw_double(r):
    while True:
        # Negative zero, NaN and infinities are refused by some stores, by name, once they are met: other tests do that.
        edge = [0.0, 0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1e-7, 1e16, 123456789.123456789]
        value = r.choice(edge) if r.random() < 0.2 else struct.unpack("<d", r.randbytes(8))[0]
        if math.isfinite(value) and str(value) != "-0.0":
            return value


def draw_single(r):
    while True:
        value = struct.unpack("<f", r.randbytes(4))[0] if r.random() < 0.8 else struct.unpack("<f", struct.pack("<f", r.choice([0.0, 0.1, 3.4e38, 1e-38, 16777217])))[0]
        if math.isfinite(value) and (value == 0 or abs(value) > 1.2e-38):
            return value


def draw_date(r):
    edge = [dt.date(1000, 1, 1), dt.date(9999, 12, 31), dt.date(1970, 1, 1), dt.date(2000, 2, 29), dt.date(1582, 10, 10)]
    return r.choice(edge) if r.random() < 0.1 else dt.date(1000, 1, 1) + dt.timedelta(days=r.randrange(3287182))


def draw_time(r):
    edge = [dt.time(0), dt.time(23, 59, 59, 999999), dt.time(12, 0, 0, 1)]
    return r.choice(edge) if r.random() < 0.1 else (dt.datetime(2000, 1, 1) + dt.timedelta(microseconds=r.randrange(86_400_000_000))).time()


def draw_moment(r):
    day = draw_date(r)
    micro = r.choice([0, 1, 999_999, 500_000]) if r.random() < 0.2 else r.randrange(1_000_000)
    return dt.datetime(day.year, day.month, day.day, r.randrange(24), r.randrange(60), r.randrange(60), micro)


def draw_instant(r):
    # The range of MariaDB's TIMESTAMP, which is the narrowest.
    return dt.datetime(1970, 1, 2, tzinfo=UTC) + dt.timedelta(microseconds=r.randrange(2_145_000_000 * 1_000_000))


def draw_json(r):
    return json.dumps({"k": draw_text(r).replace("\x00", ""), "n": [1, 2.5, None, True]}, ensure_ascii=False)


FAMILIES = {
    "i8": draw_int(-128, 127), "u8": draw_int(0, 255), "i16": draw_int(-2**15, 2**15 - 1), "u16": draw_int(0, 2**16 - 1),
    "i24": draw_int(-2**23, 2**23 - 1), "i32": draw_int(-2**31, 2**31 - 1), "u32": draw_int(0, 2**32 - 1),
    "i64": draw_int(-2**63, 2**63 - 1), "u64": draw_int(0, 2**64 - 1), "f32": draw_single, "f64": draw_double,
    "d18_4": draw_decimal(18, 4), "d38_10": draw_decimal(38, 10), "d65_30": draw_decimal(65, 30),
    "dany": lambda r: draw_decimal(r.randrange(1, 60), r.randrange(0, 30))(r),
    "bool": lambda r: r.random() < 0.5, "text": draw_text, "bytes": draw_bytes, "date": draw_date, "time": draw_time,
    "moment": draw_moment, "instant": draw_instant, "uuid": lambda r: uuid.UUID(bytes=r.randbytes(16), version=4),
    **values_sql_server.FAMILIES, "json": draw_json, "year": draw_int(1901, 2155), "enum": lambda r: r.choice(["red", "gr'een", "b,lue", "ü"]),
}


def canonical(family, value):
    """One text per value, whatever a driver made of it."""
    if value is None:
        return None
    if isinstance(value, (bytearray, memoryview)):
        value = bytes(value)
    own = values_sql_server.canonical(family, value)
    if own is not None:
        return own
    if family in ("text", "enum", "json"):
        return value.decode() if isinstance(value, bytes) else str(value)
    if family == "bytes":
        if isinstance(value, str):
            value = bytes.fromhex(value[2:] if value.startswith("\\x") else value)
        return value.hex()
    if family == "bool":
        return {"1": "true", "0": "false", "t": "true", "f": "false", "b'\\x01'": "true", "b'\\x00'": "false"}.get(str(value).lower(), str(value).lower())
    if family == "uuid":
        return str(uuid.UUID(bytes=value)) if isinstance(value, bytes) else str(uuid.UUID(str(value)))
    if family[0] in "iu" and family[1:].isdigit() or family == "year":
        return str(int(value))
    if family == "f64":
        return repr(float(value))
    if family == "f32":
        return repr(struct.unpack("<f", struct.pack("<f", float(value)))[0])
    if family[0] == "d" and family != "date":
        value = D(repr(value)) if isinstance(value, float) else D(value)
        return "0" if value == 0 else format(value.normalize(), "f")
    if family == "date":
        return value.isoformat()[:10] if hasattr(value, "isoformat") else str(value)[:10]
    if family == "time":
        if isinstance(value, dt.timedelta):
            value = (dt.datetime(2000, 1, 1) + value).time()
        return (value if isinstance(value, dt.time) else dt.time.fromisoformat(str(value))).isoformat("microseconds")
    if family in ("moment", "instant", "seconds", "old", "small"):
        if not isinstance(value, dt.datetime):
            value = dt.datetime.fromisoformat(re.sub(r" (?=[+-])", "", str(value).replace("Z", "+00:00")))
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return value.isoformat(" ", "microseconds")
    raise SystemExit(f"no canonical form for {family}")


# --- stores ---------------------------------------------------------------------------------------------------------


class Postgres:
    types = {"i16": "smallint", "i32": "integer", "i64": "bigint", "f32": "real", "f64": "double precision",
             "d18_4": "numeric(18,4)", "d38_10": "numeric(38,10)", "dany": "numeric", "bool": "boolean", "text": "text",
             "bytes": "bytea", "date": "date", "time": "time", "moment": "timestamp", "instant": "timestamptz",
             "uuid": "uuid", "json": "json"}

    def __init__(self, folder):
        import psycopg
        self.url = os.environ["DMG_TEST_POSTGRES"]
        self.secret = os.environ["DMG_TEST_POSTGRES_PASSWORD_FILE"]
        self.connection = psycopg.connect(self.url, password=open(self.secret).read().strip(), autocommit=True)
        self.connection.execute("SET timezone = 'UTC'")
        self.schema = f"values_{os.getpid()}"
        self.connection.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE; CREATE SCHEMA {self.schema}")

    def make(self, table, columns, rows):
        declared = ", ".join(f"c_{name} {self.types[name]}" for name in columns)
        self.connection.execute(f"CREATE TABLE {self.schema}.{table} (id bigint PRIMARY KEY, {declared})")
        with self.connection.cursor().copy(f"COPY {self.schema}.{table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row([json.dumps(v) if isinstance(v, dict) else v for v in row])

    def side(self, table):
        return [self.url, "--secret-file", self.secret, "--table", f"{self.schema}.{table}"]

    def read(self, table, columns):
        wanted = ", ".join(f"c_{name}::text" if name == "json" else f"c_{name}" for name in columns)
        return self.connection.execute(f"SELECT id, {wanted} FROM {self.schema}.{table} ORDER BY id").fetchall()

    def drop(self, table):
        self.connection.execute(f"DROP TABLE IF EXISTS {self.schema}.{table}")

    def close(self):
        self.connection.execute(f"DROP SCHEMA {self.schema} CASCADE")


class MariaDb:
    types = {"i8": "tinyint", "u8": "tinyint unsigned", "i16": "smallint", "u16": "smallint unsigned", "i24": "mediumint",
             "i32": "int", "u32": "int unsigned", "i64": "bigint", "u64": "bigint unsigned", "f32": "float", "f64": "double",
             "d18_4": "decimal(18,4)", "d38_10": "decimal(38,10)", "d65_30": "decimal(65,30)", "text": "longtext",
             "bytes": "longblob", "date": "date", "time": "time(6)", "moment": "datetime(6)",
             "instant": "timestamp(6) NULL", "json": "json", "year": "year", "enum": "enum('red','gr''een','b,lue','ü')"}

    def __init__(self, folder):
        import pymysql
        self.url = os.environ["DMG_TEST_MARIADB"]
        self.secret = os.environ["DMG_TEST_MARIADB_PASSWORD_FILE"]
        place = urlparse(self.url)
        self.connection = pymysql.connect(host=place.hostname, port=place.port, user=place.username, charset="utf8mb4",
                                          password=open(self.secret).read().strip(), autocommit=True)
        self.database = f"values_{os.getpid()}"
        self.run("SET time_zone = '+00:00'")
        self.run(f"CREATE DATABASE {self.database} CHARACTER SET utf8mb4")
        self.run(f"USE {self.database}")
        self.base = f"mysql://{place.username}@{place.hostname}:{place.port}/{self.database}"

    def run(self, sql, rows=None):
        with self.connection.cursor() as cursor:
            if rows is not None:
                return cursor.executemany(sql, rows) if rows else None
            cursor.execute(sql)
            return cursor.fetchall()

    def make(self, table, columns, rows):
        declared = ", ".join(f"c_{name} {self.types[name]}" for name in columns)
        self.run(f"CREATE TABLE {table} (id bigint PRIMARY KEY, {declared}) CHARACTER SET utf8mb4")
        marks = ", ".join(["%s"] * (len(columns) + 1))

        def plain(value):
            if isinstance(value, dt.datetime):
                return canonical("instant", value)
            # The driver would round a double to 15 digits.
            return repr(value) if isinstance(value, float) else value
        self.run(f"INSERT INTO {table} VALUES ({marks})", [[plain(v) for v in row] for row in rows])

    def side(self, table):
        return [self.base, "--secret-file", self.secret, "--table", table]

    def read(self, table, columns):
        # CAST prints the shortest text that reads back as the same double; plain FLOAT output is cut to 6 digits.
        def wanted(name):
            return f"CAST(c_{name} AS double)" if name == "f32" else f"c_{name}"
        return self.run(f"SELECT id, {', '.join(map(wanted, columns))} FROM {table} ORDER BY id")

    def drop(self, table):
        self.run(f"DROP TABLE IF EXISTS {table}")

    def close(self):
        self.run(f"DROP DATABASE {self.database}")


class Sqlite:
    types = {"i64": "INTEGER", "f64": "REAL", "text": "TEXT", "bytes": "BLOB"}

    def __init__(self, folder):
        self.path = os.path.join(folder, "values.db")
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        # The same file is read and written at once.
        self.connection.execute("PRAGMA journal_mode = wal")

    def make(self, table, columns, rows):
        declared = ", ".join(f"c_{name} {self.types[name]}" for name in columns)
        self.connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {declared})")
        marks = ", ".join("?" * (len(columns) + 1))
        self.connection.execute("BEGIN")
        self.connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        self.connection.execute("COMMIT")

    def side(self, table):
        return ["sqlite:" + self.path, "--table", table]

    def read(self, table, columns):
        wanted = ", ".join(f"c_{name}" for name in columns)
        return self.connection.execute(f"SELECT id, {wanted} FROM {table} ORDER BY id").fetchall()

    def drop(self, table):
        self.connection.execute(f"DROP TABLE IF EXISTS {table}")

    def close(self):
        self.connection.close()


class Parquet:
    def __init__(self, folder):
        import pyarrow as pa
        self.folder = folder
        self.types = {"i8": pa.int8(), "u8": pa.uint8(), "i16": pa.int16(), "u16": pa.uint16(), "i32": pa.int32(),
                      "u32": pa.uint32(), "i64": pa.int64(), "u64": pa.uint64(), "f32": pa.float32(), "f64": pa.float64(),
                      "d18_4": pa.decimal128(18, 4), "d38_10": pa.decimal128(38, 10), "bool": pa.bool_(), "text": pa.string(),
                      "bytes": pa.binary(), "date": pa.date32(), "time": pa.time64("us"), "moment": pa.timestamp("us"),
                      "instant": pa.timestamp("us", "UTC")}

    def path(self, table):
        return os.path.join(self.folder, f"{table}.parquet")

    def make(self, table, columns, rows):
        import pyarrow as pa
        import pyarrow.parquet as parquet
        by_column = list(zip(*rows))
        arrays = [pa.array(by_column[0], pa.int64())]
        arrays += [pa.array(values, self.types[name]) for name, values in zip(columns, by_column[1:])]
        parquet.write_table(pa.table(arrays, names=["id"] + [f"c_{name}" for name in columns]), self.path(table))

    def side(self, table):
        return ["file:" + self.path(table)]

    def read(self, table, columns):
        import pyarrow.parquet as parquet
        found = parquet.read_table(self.path(table)).sort_by("id")
        return list(zip(*[self.values(found.column(name)) for name in ["id"] + [f"c_{name}" for name in columns]]))

    def values(self, column):
        """As Python has them; what it has no type for, nanoseconds, as text."""
        import pyarrow as pa
        if column.type not in (pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.time64("ns")):
            return column.to_pylist()

        def text(nanos):
            if nanos is None:
                return None
            moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=nanos // 10**9)
            form = "%H:%M:%S" if pa.types.is_time(column.type) else "%Y-%m-%d %H:%M:%S"
            return f"{moment.strftime(form)}.{nanos % 10**9:09}"
        return [text(nanos) for nanos in column.cast(pa.int64()).to_pylist()]

    def drop(self, table):
        if os.path.exists(self.path(table)):
            os.remove(self.path(table))

    def close(self):
        pass


STORES = {"postgres": Postgres, "mariadb": MariaDb, "sqlserver": values_sql_server.SqlServer, "sqlite": Sqlite, "parquet": Parquet}
# What has to be in the environment for a store to be there.
SERVERS = {"postgres": "DMG_TEST_POSTGRES", "mariadb": "DMG_TEST_MARIADB", "sqlserver": "DMG_VALUES_SQLSERVER"}


# --- the pairs ------------------------------------------------------------------------------------------------------


class Failure(Exception):
    pass


def dmg(program, arguments):
    done = subprocess.run([program, "copy", *arguments, "--output", "json"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    text = done.stdout.strip() or done.stderr.strip()
    try:
        answer = json.loads(text.splitlines()[-1] if not text.startswith("{") else text)
    except (ValueError, IndexError):
        answer = {"text": text}
    return done.returncode, answer, done.stdout + done.stderr


def plan(program, source, sink, columns):
    """What the plan takes, and what it refuses, by asking it until it agrees."""
    refused, columns = [], list(columns)
    while columns:
        wanted = [argument for name in ["id"] + [f"c_{name}" for name in columns] for argument in ("--column", name)]
        code, answer, text = dmg(program, ["--from", *source, "--to", *sink, *wanted, "--create-table", "--dry-run"])
        if code == 0:
            return columns, refused, answer
        named = re.search(r'"c_(\w+)"', text)
        if named is None or named.group(1) not in columns:
            raise Failure(f"the plan fails without naming a column: {text.strip()}")
        columns.remove(named.group(1))
        refused.append(named.group(1))
    return columns, refused, {}


def compare(families, expected, found):
    if len(expected) != len(found):
        raise Failure(f"{len(found)} rows instead of {len(expected)}")
    for want, have in zip(expected, found):
        for family, a, b in zip(["i64"] + families, want, have):
            one, two = canonical(family, a), canonical(family, b)
            if one != two:
                raise Failure(f"row {want[0]}, {family}: {one!r} became {two!r} ({b!r})")


def read_again(sink, table, columns, expected):
    """The same by a second client, where the store has one."""
    if hasattr(sink, "read_again"):
        compare(columns, expected, list(sink.read_again(table, columns)))


def run_pair(program, name, source, sink, columns, rows_read, back=None):
    sink_table = f"from_{name}"
    wanted = lambda taken: [argument for c in ["id"] + [f"c_{c}" for c in taken] for argument in ("--column", c)]
    taken, refused, agreed = plan(program, source.side("origin"), sink.side(sink_table), columns)
    verdicts = {column["source"].removeprefix("c_"): column["verdict"] for column in agreed.get("columns", [])}
    while True:
        code, _, text = dmg(program, ["--from", *source.side("origin"), "--to", *sink.side(sink_table), *wanted(taken), "--create-table"])
        if code == 0:
            break
        named = re.search(r'"c_(\w+)"', text)
        name = named.group(1) if named else ""
        if name not in values_sql_server.FINE or name not in taken or verdicts.get(name) != "checked":
            raise Failure(f"planned {', '.join(taken)}, and then: {text.strip()[-600:]}")
        taken.remove(name)
        refused.append(f"{name} (by its check)")
    expected = [[row[0]] + [row[1 + columns.index(c)] for c in taken] for row in rows_read]
    compare(taken, expected, sink.read(sink_table, taken))
    read_again(sink, sink_table, taken, expected)
    sink.drop(sink_table)
    return taken, refused


def run_csv(program, source, columns, rows_read, folder):
    """Out to text and back into a table of the same types."""
    path = os.path.join(folder, "way.csv")
    wanted = [argument for c in ["id"] + [f"c_{c}" for c in columns] for argument in ("--column", c)]
    code, _, text = dmg(program, ["--from", *source.side("origin"), "--to", "file:" + path, *wanted, "--mode", "overwrite"])
    if code != 0:
        raise Failure(f"to text: {text.strip()[-600:]}")
    source.make("back", columns, [])
    code, _, text = dmg(program, ["--from", "file:" + path, "--to", *source.side("back")])
    if code != 0:
        raise Failure(f"from text: {text.strip()[-600:]}")
    compare(columns, rows_read, source.read("back", columns))
    read_again(source, "back", columns, rows_read)
    source.drop("back")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dmg")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs")
    given = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="dmg-values-")
    names = [name for name in STORES if name not in SERVERS or SERVERS[name] in os.environ]
    stores = {name: STORES[name](folder) for name in names}
    wanted = given.pairs.split(",") if given.pairs else [f"{a}:{b}" for a in names for b in [*names, "csv"]]
    # The way back from text needs a table with types to go into.
    wanted = [pair for pair in wanted if pair != "parquet:csv"]
    bad = 0
    try:
        read = {}
        for name in {pair.split(":")[0] for pair in wanted}:
            columns = list(stores[name].types)
            draw = random.Random(given.seed)
            rows = [[i + 1] + [None if draw.random() < 0.05 else FAMILIES[c](draw) for c in columns] for i in range(given.rows)]
            stores[name].make("origin", columns, rows)
            # What the store made of it is what has to arrive.
            read[name] = (columns, stores[name].read("origin", columns))
        for pair in wanted:
            a, b = pair.split(":")
            columns, rows = read[a]
            try:
                if b == "csv":
                    run_csv(given.dmg, stores[a], columns, rows, folder)
                    taken, refused = columns, []
                else:
                    taken, refused = run_pair(given.dmg, a, stores[a], stores[b], columns, rows)
                line = f"ok   {pair}: {len(rows)} rows, {len(taken)} columns equal"
                print(line + (f"; refused: {', '.join(refused)}" if refused else ""), flush=True)
            except Failure as failure:
                bad += 1
                print(f"FAIL {pair}: {failure}", flush=True)
                if b in stores:
                    stores[b].drop(f"from_{a}")
                else:
                    stores[a].drop("back")
    finally:
        for store in stores.values():
            store.close()
        subprocess.run(["rm", "-rf", folder], check=False)
    print(f"{len(wanted)} pairs, {bad} failed")
    sys.exit(1 if bad else 0)


main()
