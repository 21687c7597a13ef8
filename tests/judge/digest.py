"""The digest of docs/digest.md, written again from that page alone, as a judge of the product.

It reads a Parquet file by pyarrow or a PostgreSQL table by psycopg and shares no code with the product.

    digest.py golden FILE [--write]             checks (or fills in) the golden vectors
    digest.py parquet RECEIPT FILE...           compares files with the digest in a receipt
    digest.py postgres RECEIPT DSN RELATION     compares a table, or a query in parentheses
"""

import argparse
import json
import struct
import sys
from decimal import Context, Decimal

import xxhash

MASK64 = (1 << 64) - 1
MASK128 = (1 << 128) - 1
PUBLISHED_SEED = int.from_bytes(b"dmg-copy", "big")
EXACT = Context(prec=100)

TAGS = {
    "boolean": 1,
    "int8": 2, "int16": 2, "int32": 2, "int64": 2, "uint8": 2, "uint16": 2, "uint32": 2, "uint64": 2,
    "float32": 3, "float64": 3,
    "text": 5, "bytes": 6, "date": 7, "timestamp": 8, "instant": 9, "time": 10, "uuid": 11, "json": 12,
    "decimal": 13, "engine-text": 14,
    "timestamp-nanos": 15, "instant-nanos": 16, "time-nanos": 17, "instant-with-offset": 18,
}


def tag(kind):
    return 4 if kind.startswith("decimal(") else TAGS[kind]


def scale_of(kind):
    return int(kind[len("decimal("):-1].split(",")[1])


def integer(value):
    """Eight bytes where they suffice, else sixteen."""
    try:
        return struct.pack("<q", value)
    except struct.error:
        return value.to_bytes(16, "little", signed=True)


def content(kind, value):
    """The canonical bytes of a value that is not NULL."""
    number = tag(kind)
    if number in (1, 2, 4, 7, 8, 9, 10, 15, 16, 17):
        return integer(int(value))
    if number == 18:
        moment, offset = value
        return moment.to_bytes(16, "little", signed=True) + struct.pack("<h", offset)
    if number == 3:
        if value != value:
            return struct.pack("<Q", 0x7FF8000000000000)
        return struct.pack("<d", value)
    if number in (6, 11):
        return bytes(value)
    return value.encode("utf-8")


class Digest:
    def __init__(self, columns, seed=PUBLISHED_SEED):
        """columns: list of (name, kind) in order."""
        self.columns = columns
        self.seed = seed
        self.seeds = [xxhash.xxh3_64_intdigest(name.encode() + bytes([0, tag(kind)]), seed) for name, kind in columns]
        self.nulls = [xxhash.xxh3_128_intdigest(b"", s ^ MASK64) for s in self.seeds]
        self.sums = [0] * len(columns)
        self.row_sum = 0
        self.rows = 0

    def add(self, row):
        """row: one value per column as content() takes it, or None."""
        halves = b""
        for i, value in enumerate(row):
            if value is None:
                hashed = self.nulls[i]
            else:
                hashed = xxhash.xxh3_128_intdigest(content(self.columns[i][1], value), self.seeds[i])
            self.sums[i] = (self.sums[i] + hashed) & MASK128
            halves += struct.pack("<Q", hashed & MASK64)
        self.row_sum = (self.row_sum + xxhash.xxh3_128_intdigest(halves, self.seed)) & MASK128
        self.rows += 1

    def report(self):
        return {
            "rows": self.rows,
            "columns": [
                {"name": name, "kind": kind, "sum": f"{total:032x}"}
                for (name, kind), total in zip(self.columns, self.sums)
            ],
            "rowSum": f"{self.row_sum:032x}",
        }


# --- Parquet -----------------------------------------------------------------------------------------------------


def parquet_values(column, kind):
    """A column of a batch as content() takes it. Numbers behind dates are taken as they are, so that infinities,
    which Python's calendar does not know, pass."""
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if kind.startswith("decimal("):
        scale = scale_of(kind)
        return [None if v is None else int(v.scaleb(scale, EXACT)) for v in column.to_pylist()]
    if kind == "date":
        return column.cast(pa.int32()).to_pylist()
    if kind in ("timestamp", "instant", "time", "timestamp-nanos", "instant-nanos", "time-nanos"):
        return column.cast(pa.int64()).to_pylist()
    return column.to_pylist()


def digest_parquet(paths, columns, seed=PUBLISHED_SEED):
    """columns: list of (name, kind)."""
    import pyarrow.parquet

    digest = Digest(columns, seed)
    for path in paths:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for row in zip(*(parquet_values(batch.column(name), kind) for name, kind in columns)):
                digest.add(row)
    return digest.report()


# --- PostgreSQL --------------------------------------------------------------------------------------------------

SESSION = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 3; "
    "SET bytea_output = 'hex'"
)


def postgres_expression(name, kind):
    """SQL for a column whose text (or bytes) content() takes after postgres_value()."""
    column = '"' + name.replace('"', '""') + '"'
    number = tag(kind)
    if number == 3:
        return f"float8send({column}::float8)"
    if number == 6:
        return column
    if number == 11:
        return f"uuid_send({column})"
    if number == 7:
        low, high, finite = -(2**31), 2**31 - 1, f"({column} - date '1970-01-01')"
    elif number in (8, 9):
        low, high, finite = -(2**63), 2**63 - 1, f"(extract(epoch from {column}) * 1000000)::numeric(40,0)"
    elif number == 10:
        return f"(extract(epoch from {column}) * 1000000)::numeric(40,0)::text"
    else:
        # The type's own output function: a cast to text would strip the padding of char(n).
        return f"CASE WHEN {column} IS NOT NULL THEN format('%s', {column}) END"
    return (
        f"CASE WHEN {column} = 'infinity' THEN '{high}' WHEN {column} = '-infinity' THEN '{low}' "
        f"ELSE {finite}::text END"
    )


def postgres_value(kind, value):
    if value is None:
        return None
    number = tag(kind)
    if number == 1:
        return value == "t"
    if number == 3:
        return struct.unpack(">d", value)[0]
    if number == 4:
        return int(Decimal(value).scaleb(scale_of(kind), EXACT))
    if number in (2, 7, 8, 9, 10):
        return int(value)
    return value


def digest_postgres(dsn, relation, columns, password=None, seed=PUBLISHED_SEED):
    """relation: a table name as SQL writes it, or a query in parentheses."""
    import psycopg

    digest = Digest(columns, seed)
    fields = ", ".join(postgres_expression(name, kind) for name, kind in columns)
    with psycopg.connect(dsn, password=password) as connection:
        connection.execute(SESSION)
        with connection.cursor("judge") as cursor:
            cursor.execute(f"SELECT {fields} FROM {relation} AS judged")
            for row in cursor:
                digest.add([postgres_value(kind, value) for (_, kind), value in zip(columns, row)])
    return digest.report()


# --- Receipts ----------------------------------------------------------------------------------------------------


def receipt_payload(path):
    """A receipt, signed or not."""
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    return json.loads(document["payload"]) if "payload" in document else document


def compare(report, claimed, side):
    differences = []
    for name in ("rows", "rowSum"):
        if report[name] != claimed[name]:
            differences.append(f"{side}: {name} is {report[name]}, the receipt says {claimed[name]}")
    for mine, theirs in zip(report["columns"], claimed["columns"]):
        if mine["sum"] != theirs["sum"]:
            differences.append(f"{side}: column {mine['name']} ({mine['kind']}) differs from the receipt")
    return differences


def judge_receipt(path, make):
    """make(columns) digests the content anew; both sides of the receipt must say the same."""
    receipt = receipt_payload(path)
    claims = {side: receipt[side]["digest"] for side in ("read", "written")}
    columns = [(column["name"], column["kind"]) for column in claims["read"]["columns"]]
    report = make(columns)
    differences = [text for side, claimed in claims.items() for text in compare(report, claimed, side)]
    for text in differences:
        print(text)
    print(f"{report['rows']} rows, {len(columns)} columns: {'differs' if differences else 'equal'}")
    return 1 if differences else 0


# --- Golden vectors ----------------------------------------------------------------------------------------------


def golden_value(kind, text):
    """Golden values are written so that every language reads them alike: numbers as decimal text, floats as the bits
    of their own width in hex, bytes and uuids in hex, decimals and times as the integer behind them, an offset as a second integer."""
    if text is None:
        return None
    number = tag(kind)
    if number == 1:
        return text == "true"
    if number == 3:
        raw = bytes.fromhex(text)
        return struct.unpack(">f" if kind == "float32" else ">d", raw)[0]
    if number in (2, 4, 7, 8, 9, 10, 15, 16, 17):
        return int(text)
    if number == 18:
        return tuple(int(part) for part in text.split(" "))
    if number in (6, 11):
        return bytes.fromhex(text)
    return text


def golden(path, write):
    with open(path, encoding="utf-8") as file:
        cases = json.load(file)
    wrong = 0
    for case in cases:
        columns = [(column["name"], column["kind"]) for column in case["columns"]]
        digest = Digest(columns, int(case["seed"], 16))
        values = [[golden_value(c["kind"], text) for text in c["values"]] for c in case["columns"]]
        for row in zip(*values):
            digest.add(row)
        report = digest.report()
        expect = {"rows": report["rows"], "sums": [c["sum"] for c in report["columns"]], "rowSum": report["rowSum"]}
        if write:
            case["expect"] = expect
        elif case.get("expect") != expect:
            wrong += 1
            print(f"{case['name']}: expected {case.get('expect')}, got {expect}")
    if write:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(cases, file, indent=1, ensure_ascii=True)
            file.write("\n")
    print(f"{len(cases)} golden vectors, {wrong} wrong")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("golden")
    command.add_argument("file")
    command.add_argument("--write", action="store_true")
    command = commands.add_parser("parquet")
    command.add_argument("receipt")
    command.add_argument("files", nargs="+")
    command = commands.add_parser("postgres")
    command.add_argument("receipt")
    command.add_argument("dsn")
    command.add_argument("relation")
    command.add_argument("--password-file")
    given = parser.parse_args()
    if given.command == "golden":
        return golden(given.file, given.write)
    if given.command == "parquet":
        return judge_receipt(given.receipt, lambda columns: digest_parquet(given.files, columns))
    password = open(given.password_file, encoding="utf-8").read().strip() if given.password_file else None
    return judge_receipt(given.receipt, lambda columns: digest_postgres(given.dsn, given.relation, columns, password))


if __name__ == "__main__":
    sys.exit(main())
