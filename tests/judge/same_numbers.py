"""Numbers that two stores hold in different types, and which of them are the same number; by exact fractions of Python's own.

same_numbers.py FOLDER SEED ROWS: writes left.sql (PostgreSQL, exact types, instants), right.mysql.sql (MariaDB) and right.parquet
(pyarrow), both with doubles and moments without a zone, and truth.json: the columns that differ for each id that has any.
same_numbers.py check TRUTH ANSWER [COLUMN…]: compares the answer of `dmg verify --json` with the truth, or with those columns of it.
"""

import datetime
import json
import random
import sys
from decimal import Decimal
from fractions import Fraction

NAMES = ["id", "whole", "amount", "free", "at"]
START = datetime.datetime(1990, 1, 1)


def make(chance, number):
    whole = chance.choice([chance.randrange(-1000, 1000), 2**53 + chance.randrange(-3, 4), chance.randrange(-2**63, 2**63),
                           chance.randrange(2**31) << chance.randrange(32)])
    amount = Decimal(chance.choice([chance.randrange(10**6), chance.randrange(10**16), 25 * chance.randrange(10**6)])).scaleb(-4)
    free = Decimal(chance.randrange(-10**20, 10**20)).scaleb(-chance.randrange(25))
    if chance.random() < 0.3:
        # The very digits of a double.
        free = Decimal(chance.randrange(2**40) / 2 ** chance.randrange(30))
    at = START + datetime.timedelta(microseconds=chance.randrange(10**15))
    return [number] + [None if chance.random() < 0.05 else value for value in (whole, amount, free, at)]


def other(chance, row):
    number, *numbers, at = row
    numbers = [None if value is None else float(value) for value in numbers]
    if at is not None and chance.random() < 0.01:
        at += datetime.timedelta(microseconds=1)
    return [number, *numbers, at]


def same(a, b):
    if a is None or b is None:
        return a is b
    return a == b if isinstance(a, datetime.datetime) else Fraction(a) == Fraction(b)


def text(value, zone, null):
    if value is None:
        return null
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f") + zone
    return repr(value) if isinstance(value, float) else format(value, "f") if isinstance(value, Decimal) else str(value)


def parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    kinds = [pyarrow.int64(), pyarrow.float64(), pyarrow.float64(), pyarrow.float64(), pyarrow.timestamp("us")]
    columns = [pyarrow.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds)]
    pyarrow.parquet.write_table(pyarrow.table(columns, names=NAMES), path, row_group_size=3000)


def check(truth, answer, only):
    with open(truth, encoding="utf-8") as file:
        truth = json.load(file)
    with open(answer, encoding="utf-8") as file:
        answer = json.load(file)
    kept = {number: [name for name in names if not only or name in only] for number, names in truth.items()}
    expected = {number: names for number, names in kept.items() if names}
    assert expected, "the rows were to differ somewhere"
    found = {difference["from"]["id"]: difference["columns"] for difference in answer["differences"]}
    assert answer["rows"]["*"] == len(expected), (answer["rows"], len(expected))
    wrong = {number for number in expected.keys() | found.keys() if expected.get(number) != found.get(number)}
    assert not wrong, [(number, expected.get(number), found.get(number)) for number in sorted(wrong)[:5]]
    print(len(found), "rows differ, each in the columns it does")


def main(arguments):
    if arguments[0] == "check":
        return check(arguments[1], arguments[2], arguments[3:])
    folder, seed, count = arguments[0], int(arguments[1]), int(arguments[2])
    chance = random.Random(seed)
    rows = [make(chance, number) for number in range(1, count + 1)]
    right = [other(chance, row) for row in rows]
    with open(f"{folder}/left.sql", "w", encoding="utf-8") as file:
        file.write("CREATE TABLE l (id bigint PRIMARY KEY, whole bigint, amount numeric(18,4), free numeric, at timestamptz);\n"
                   "COPY l FROM STDIN;\n")
        file.writelines("\t".join(text(value, "+00", "\\N") for value in row) + "\n" for row in rows)
        file.write("\\.\n")
    with open(f"{folder}/right.mysql.sql", "w", encoding="utf-8") as file:
        file.write("CREATE TABLE r (id bigint PRIMARY KEY, whole double, amount double, free double, at datetime(6));\n")
        for start in range(0, count, 500):
            quoted = lambda value: "'%s'" % text(value, "", "") if isinstance(value, datetime.datetime) else text(value, "", "NULL")
            values = ",".join("(" + ",".join(map(quoted, row)) + ")" for row in right[start : start + 500])
            file.write(f"INSERT INTO r VALUES {values};\n")
    parquet(f"{folder}/right.parquet", right)
    truth = {}
    for a, b in zip(rows, right):
        names = [name for name, x, y in zip(NAMES, a, b) if not same(x, y)]
        if names:
            truth[str(a[0])] = names
    with open(f"{folder}/truth.json", "w", encoding="utf-8") as file:
        json.dump(truth, file)


main(sys.argv[1:])
