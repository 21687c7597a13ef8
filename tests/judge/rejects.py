"""Makes a text file with bad rows at random places, and judges what a copy that leaves them out made of it.

rejects.py make FOLDER ROWS BAD SEED [table]
    writes FOLDER/source.csv and FOLDER/expected.json; with "table", some of the bad rows are such as only the target's
    own constraints refuse: id is its key, and amount is below 90000000
rejects.py check FOLDER REDIRECT TARGET RECEIPT [LAYOUT]
    TARGET is a Parquet file, or text as psql's COPY ... CSV HEADER writes it; REDIRECT is laid out as ours, or as LAYOUT
    says: "original", "log", or "log-files", which tells files too
rejects.py mend FOLDER REDIRECT MENDED
    corrects the values in a redirect file, so that it can be copied in

Uses Python's csv module and pyarrow; nothing of the program under test.
"""

import csv
import datetime
import decimal
import io
import json
import os
import random
import re
import sys

COLUMNS = ["id", "name", "amount", "at", "flag"]
# Kinds of bad rows: what is done to the fields, the column that is to be named, and the code.
BAD = [
    (lambda row: row[:0] + ["no number"] + row[1:], "id", "UserErrorValue"),
    (lambda row: row[:0] + ["99999999999"] + row[1:], "id", "UserErrorValue"),
    (lambda row: row[:2] + ["1.239"] + row[3:], "amount", "UserErrorValue"),
    (lambda row: row[:2] + ["12345678901.00"] + row[3:], "amount", "UserErrorValue"),
    (lambda row: row[:3] + ["2024-02-30 00:00:00"] + row[4:], "at", "UserErrorValue"),
    (lambda row: row[:4] + ["perhaps"], "flag", "UserErrorValue"),
    (lambda row: row[:4], "", "UserErrorFileFormat"),
    (lambda row: row + ["one, \"more\"", "and\nanother"], "", "UserErrorFileFormat"),
]

# What is done to a row by its number, likewise. The key is that of an earlier good row, which stays.
REFUSED = [
    (lambda row, earlier: [str(earlier)] + row[1:], "id", "UserErrorDuplicateKey"),
    (lambda row, earlier: row[:2] + ["99000000.00"] + row[3:], "amount", "UserErrorValue"),
]


def good(number):
    at = datetime.datetime(2024, 1, 1) + datetime.timedelta(seconds=number, microseconds=number % 7)
    name = ["plain", "with, comma", 'with "quotes"', "with\nbreak", "é😀"][number % 5] + f" {number}"
    amount = decimal.Decimal(number * 7 % 1000003) / 100 - 3000
    return [str(number), name, f"{amount:.2f}", at.isoformat(" "), "true" if number % 3 else "false"]


def write(path, header, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def make(folder, rows, bad, seed, target=""):
    chance = random.Random(int(seed))
    places = sorted(chance.sample(range(1, int(rows) + 1), int(bad)))
    bad_rows, expected, refused, all_rows, place = set(places), [], [], [], 0
    for number in range(1, int(rows) + 1):
        row = good(number)
        if place < len(places) and places[place] == number:
            place += 1
            earlier = chance.randrange(1, number) if number > 1 else 1
            if target and chance.random() < 0.5 and earlier not in bad_rows:
                spoil, column, code = chance.choice(REFUSED)
                row = spoil(row, earlier)
                refused.append({"row": number, "column": column, "code": code, "values": row})
            else:
                spoil, column, code = chance.choice(BAD)
                row = spoil(row)
                expected.append({"row": number, "column": column, "code": code, "values": row})
        all_rows.append(row)
    write(f"{folder}/source.csv", COLUMNS, all_rows)
    with open(f"{folder}/expected.json", "w", encoding="utf-8") as file:
        # What the target refuses is told behind what could not be read or converted.
        json.dump({"rows": int(rows), "bad": expected + refused}, file)


def more(values):
    return ",".join('"' + value.replace('"', '""') + '"' for value in values)


def check_redirect(expected, path):
    with open(path, encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(expected["bad"]), f"{len(found)} rows in the redirect, not {len(expected['bad'])}"
    for row, bad in zip(found, expected["bad"]):
        assert int(row["RowNumber"]) == bad["row"], (row, bad)
        assert row["Column"] == bad["column"], (row, bad)
        assert row["ErrorCode"] == bad["code"], (row, bad)
        assert row["ErrorMessage"] and row["Part"].endswith("source.csv"), row
        values = bad["values"][: len(COLUMNS)] + [""] * (len(COLUMNS) - len(bad["values"]))
        assert [row[name] for name in COLUMNS] == values, (row, bad)
        assert row["MoreValues"] == more(bad["values"][len(COLUMNS) :]), (row, bad)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def check_original(expected, path, target):
    """The original's layout: the row, code, reason, and behind them what is ours."""
    found = read(path)
    assert len(found) == len(expected["bad"]), f"{len(found)} rows in the redirect, not {len(expected['bad'])}"
    for row, bad in zip(found, expected["bad"]):
        values = bad["values"][: len(COLUMNS)] + [""] * (len(COLUMNS) - len(bad["values"]))
        assert row[: len(COLUMNS)] == values, (row, bad)
        code, reason, number, part, column, beyond = row[len(COLUMNS) :]
        assert (code, int(number), column) == (bad["code"], bad["row"], bad["column"]), (row, bad)
        assert reason and part.endswith("source.csv"), row
        assert beyond == more(bad["values"][len(COLUMNS) :]), (row, bad)


QUOTED = "'((?:[^']|'')*)'"
MESSAGE = re.compile(f"ErrorCode=(\\w+),RowNumber=(\\d+),Part={QUOTED},(?:Column={QUOTED},)?Message=(.+)")


def check_log(expected, path, target, files=False):
    """The session log: one line for each row that was left out, and for files if they are told."""
    lines = read(path)
    assert lines[0] == ["Timestamp", "Level", "OperationName", "OperationItem", "Message"], lines[0]
    with open(path, "rb") as file:
        assert file.read().startswith(b"Timestamp,Level,OperationName,OperationItem,Message\r\n")
    for line in lines[1:]:
        assert len(line) == 5 and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{7}", line[0]), line
        datetime.datetime.strptime(line[0][:-1], "%Y-%m-%d %H:%M:%S.%f")
    skipped = [line[1:] for line in lines[1:] if line[2] == "TabularRowSkip"]
    assert len(skipped) == len(expected["bad"]), f"{len(skipped)} rows in the log, not {len(expected['bad'])}"
    for (level, _, item, message), bad in zip(skipped, expected["bad"]):
        assert level == "Warning", level
        assert next(csv.reader(io.StringIO(item, newline=""), strict=True)) == bad["values"], (item, bad)
        code, number, part, column, reason = MESSAGE.fullmatch(message).groups()
        assert (code, int(number), column or "") == (bad["code"], bad["row"], bad["column"]), (message, bad)
        assert part.endswith("source.csv"), message
        value = bad["values"][COLUMNS.index(bad["column"])] if bad["column"] else ""
        assert len(value) < 5 or value not in reason, message
    told = [line[1:] for line in lines[1:] if line[2] != "TabularRowSkip"]
    if not files:
        assert told == [], told
        return
    source = os.path.join(os.path.dirname(target), "source.csv")
    start, complete, *written = told
    assert start[:3] == ["Info", "FileRead", "source.csv"], start
    known = json.loads(start[3].removeprefix("Start to read file: "))
    assert (known["Path"], known["Size"]) == ("source.csv", os.path.getsize(source)), start
    assert complete == ["Info", "FileRead", "source.csv", "Complete reading file successfully."], complete
    if target.endswith(".parquet"):
        [[level, operation, item, message]] = written
        assert (level, operation, item) == ("Info", "FileWrite", os.path.basename(target)), written
        known = message.removeprefix("Complete writing file: ").removesuffix(". File is successfully copied.")
        assert json.loads(known) == {"Path": item, "ItemType": "File", "Size": os.path.getsize(target)}, message
    else:
        assert written == [], written


LAYOUTS = {
    "named": lambda expected, path, target: check_redirect(expected, path),
    "original": check_original,
    "log": check_log,
    "log-files": lambda expected, path, target: check_log(expected, path, target, files=True),
}


def target_rows(path):
    if path.endswith(".parquet"):
        import pyarrow.parquet as parquet

        for row in parquet.read_table(path).to_pylist():
            flag = "true" if row["flag"] else "false"
            at = row["at"].isoformat(" ")
            yield [str(row["id"]), row["name"], f"{row['amount']:.2f}", at, flag]
        return
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            flag = {"t": "true", "f": "false"}[row["flag"]]
            yield [row["id"], row["name"], row["amount"], row["at"], flag]


def check(folder, redirect, target, receipt, layout="named"):
    with open(f"{folder}/expected.json", encoding="utf-8") as file:
        expected = json.load(file)
    LAYOUTS[layout](expected, redirect, target)
    bad = {row["row"] for row in expected["bad"]}
    left = {number for number in range(1, expected["rows"] + 1) if number not in bad}
    for row in target_rows(target):
        number = int(row[0])
        assert number in left, f"row {number} is doubled or should not be there"
        left.remove(number)
        assert row == good(number), (row, good(number))
    assert not left, f"{len(left)} rows are missing, such as {min(left)}"
    with open(receipt, encoding="utf-8") as file:
        receipt = json.load(file)
    kept = expected["rows"] - len(bad)
    assert receipt["read"]["rows"] == expected["rows"], receipt["read"]
    assert receipt["written"]["rows"] == kept, receipt["written"]
    assert receipt["skipped"]["rows"] == len(bad), receipt["skipped"]
    assert receipt["read"]["digest"]["rows"] == kept, receipt["read"]
    assert receipt["read"]["digest"]["rowSum"] == receipt["written"]["digest"]["rowSum"]
    if not receipt["foundCommitted"]:
        codes = [row["code"] for row in expected["bad"]]
        assert receipt["skipped"].get("byCode", {}) == {code: codes.count(code) for code in set(codes)}, receipt["skipped"]
    print(f"{kept} rows kept, {len(bad)} left out, as they should")


def mend(folder, redirect, mended):
    with open(redirect, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0])
    corrected = []
    for row in rows:
        row.update(zip(COLUMNS, good(int(row["RowNumber"]))))
        corrected.append([row[name] for name in names])
    write(mended, names, corrected)


globals()[sys.argv[1]](*sys.argv[2:])
