"""Makes two equal sets of rows, plants differences into the second one, and writes both and the truth.

plant.py FOLDER SEED ROWS PLANTS: writes left.sql and right.sql (for psql), left.sqlite, right.parquet, right.csv,
right.mysql.sql, left.tds.sql and right.tds.sql, and truth.json: every difference as [change, id, columns].
plant.py tds FOLDER PORT SIDE TABLE: loads left.tds.sql or right.tds.sql into a SQL Server by python-tds.
plant.py check TRUTH ANSWER [nokey]: compares the answer of `dmg verify --json` with the truth.
"""

import datetime
import json
import random
import sqlite3
import sys
from collections import Counter
from decimal import Decimal

NAMES = ["id", "first", "second", "amount", "at", "ratio"]
WORDS = ["", "a", "ä", "quote \" and ' here", "comma, here", "line\nbreak", "tab\there", "\\N", "NULL", " blank ", "日本"]


def make(chance, number):
    text = lambda: None if chance.random() < 0.1 else chance.choice(WORDS) + str(chance.randrange(10**6)) * chance.randrange(2)
    start = datetime.datetime(1990, 1, 1)
    return [
        number,
        text(),
        text(),
        None if chance.random() < 0.05 else Decimal(chance.randrange(-10**12, 10**12)).scaleb(-2),
        None if chance.random() < 0.05 else start + datetime.timedelta(microseconds=chance.randrange(10**15)),
        None if chance.random() < 0.05 else chance.gauss(0, 1) * 10 ** chance.randrange(-20, 20),
    ]


def change(chance, row):
    """Changes one row in one of the ways data goes wrong; gives the new row and the columns that differ."""
    row = list(row)
    while True:
        way = chance.choice(["null", "empty", "digit", "microsecond", "swap", "value", "ulp", "blank", "case"])
        before = list(row)
        at = chance.choice([1, 2])
        if way == "null":
            row[at] = None
        elif way == "empty":
            row[at] = ""
        elif way == "digit" and row[3] is not None:
            row[3] += Decimal("0.01")
        elif way == "microsecond" and row[4] is not None:
            row[4] += datetime.timedelta(microseconds=1)
        elif way == "swap":
            row[1], row[2] = row[2], row[1]
        elif way == "value":
            row[at] = "planted %d" % chance.randrange(10**9)
        elif way == "ulp" and row[5] is not None:
            import math

            row[5] = math.nextafter(row[5], math.inf)
        elif way == "blank" and row[at] is not None:
            row[at] += " "
        elif way == "case" and row[at] is not None:
            row[at] = row[at].swapcase()
        if row != before:
            return row, [NAMES[i] for i in range(len(NAMES)) if row[i] != before[i]]


def plant(chance, rows, plants):
    victims = chance.sample(range(len(rows)), plants)
    right, truth = [list(row) for row in rows], []
    dropped = set()
    for victim in victims:
        kind = chance.choice(["change", "change", "change", "drop", "double", "add"])
        number = rows[victim][0]
        if kind == "change":
            right[victim], columns = change(chance, rows[victim])
            truth.append(["*", number, columns])
        elif kind == "drop":
            dropped.add(victim)
            truth.append(["-", number, []])
        elif kind == "double":
            right.append(list(rows[victim]))
            truth.append(["+", number, []])
        else:
            number = len(rows) + victim + 1
            right.append(make(chance, number))
            truth.append(["+", number, []])
    right = [row for at, row in enumerate(right) if at not in dropped]
    chance.shuffle(right)
    return right, truth


def moment(value):
    return value.strftime("%Y-%m-%d %H:%M:%S.%f")


def postgres(path, table, rows):
    escape = lambda text: text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")

    def cell(value):
        if value is None:
            return "\\N"
        if isinstance(value, datetime.datetime):
            return moment(value)
        return escape(value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value))

    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(
            f"CREATE TABLE {table} (id bigint, first text, second varchar, amount numeric(15,2), at timestamp, "
            f"ratio double precision);\nCOPY {table} FROM STDIN;\n"
        )
        for row in rows:
            file.write("\t".join(map(cell, row)) + "\n")
        file.write("\\.\n")


def mysql(path, table, rows):
    def cell(value):
        if value is None:
            return "NULL"
        if isinstance(value, datetime.datetime):
            return "'%s'" % moment(value)
        if isinstance(value, str):
            return "X'%s'" % value.encode().hex() if value else "''"
        return repr(value) if isinstance(value, float) else str(value)

    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"CREATE TABLE {table} (id bigint, first longtext, second varchar(200), amount decimal(15,2), "
            f"at datetime(6), ratio double) CHARACTER SET utf8mb4;\n"
        )
        for start in range(0, len(rows), 500):
            values = ",".join("(" + ",".join(map(cell, row)) + ")" for row in rows[start : start + 500])
            file.write(f"INSERT INTO {table} VALUES {values};\n")


def tds(path, rows):
    def cell(value):
        if value is None:
            return "NULL"
        if isinstance(value, datetime.datetime):
            return "'%s'" % moment(value)
        if isinstance(value, str):
            return "N'%s'" % value.replace("'", "''")
        return repr(value) if isinstance(value, float) else str(value)

    statements = [
        "CREATE TABLE {table} (id bigint, first nvarchar(max), second nvarchar(200), amount decimal(15,2), "
        "at datetime2(6), ratio float)"
    ]
    for start in range(0, len(rows), 500):
        values = ",".join("(" + ",".join(map(cell, row)) + ")" for row in rows[start : start + 500])
        statements.append(f"INSERT INTO {{table}} VALUES {values}")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(statements, file)


def load_tds(folder, port, side, table):
    import pytds

    with open(f"{folder}/{side}.tds.sql", encoding="utf-8") as file:
        statements = json.load(file)
    with pytds.connect("127.0.0.1", port=int(port), database="fixture", user="sa", password="Fixture-Password-1",
                       autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement.replace("{table}", table, 1))


def sqlite(path, rows):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id INTEGER, first TEXT, second TEXT, amount TEXT, at TEXT, ratio REAL)")
    text = lambda value, form: None if value is None else form(value)
    connection.executemany(
        "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)",
        [(r[0], r[1], r[2], text(r[3], str), text(r[4], moment), r[5]) for r in rows],
    )
    connection.commit()


def parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    kinds = [
        pyarrow.int64(), pyarrow.string(), pyarrow.string(), pyarrow.decimal128(15, 2), pyarrow.timestamp("us"),
        pyarrow.float64(),
    ]
    columns = [pyarrow.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds)]
    pyarrow.parquet.write_table(pyarrow.table(columns, names=NAMES), path, row_group_size=3000)


def csv(path, rows):
    def cell(value):
        if value is None:
            return ""
        if isinstance(value, datetime.datetime):
            value = moment(value)
        value = repr(value) if isinstance(value, float) else str(value)
        return '"%s"' % value.replace('"', '""')

    with open(path, "w", encoding="utf-8", newline="") as file:
        for row in [NAMES] + rows:
            file.write(",".join(map(cell, row)) + "\n")


def check(truth, answer, key):
    with open(truth, encoding="utf-8") as file:
        truth = json.load(file)
    with open(answer, encoding="utf-8") as file:
        answer = json.load(file)
    counts = Counter(change for change, _, _ in truth)
    if key:
        expected = Counter((change, number, tuple(columns)) for change, number, columns in truth)
    else:
        expected = Counter()
        for change, number, _ in truth:
            for sign in "-+" if change == "*" else change:
                expected[(sign, number, ())] += 1
        counts = Counter(sign for sign, _, _ in expected.elements())
    found = Counter()
    for difference in answer["differences"]:
        row = difference.get("from") or difference["to"]
        columns = tuple(difference.get("columns", []))
        found[(difference["change"], int(row["id"]), columns)] += difference["times"]
    assert not answer["equal"]
    assert {sign: answer["rows"][sign] for sign in "-+*"} == {sign: counts[sign] for sign in "-+*"}, answer["rows"]
    missed, invented = expected - found, found - expected
    assert not missed and not invented, f"missed {missed}, invented {invented}"
    print(sum(found.values()), "differences found, none missed, none invented")


def main(arguments):
    if arguments[0] == "check":
        return check(arguments[1], arguments[2], "nokey" not in arguments[3:])
    if arguments[0] == "tds":
        return load_tds(*arguments[1:])
    folder, seed, count, plants = arguments[0], int(arguments[1]), int(arguments[2]), int(arguments[3])
    chance = random.Random(seed)
    rows = [make(chance, number) for number in range(1, count + 1)]
    right, truth = plant(chance, rows, plants)
    postgres(f"{folder}/left.sql", "l", rows)
    postgres(f"{folder}/right.sql", "r", right)
    mysql(f"{folder}/right.mysql.sql", "r", right)
    tds(f"{folder}/left.tds.sql", rows)
    tds(f"{folder}/right.tds.sql", right)
    sqlite(f"{folder}/left.sqlite", rows)
    parquet(f"{folder}/left.parquet", rows)
    parquet(f"{folder}/right.parquet", right)
    csv(f"{folder}/right.csv", right)
    with open(f"{folder}/truth.json", "w", encoding="utf-8") as file:
        json.dump(truth, file)


main(sys.argv[1:])
