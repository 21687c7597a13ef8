"""Makes a text file with bad rows at random places, and judges what a copy that leaves them out made of it.

rejects.py make FOLDER ROWS BAD SEED [table]
    writes FOLDER/source.csv and FOLDER/expected.json; with "table", some of the bad rows are such as only the target's
    own constraints refuse: id is its key, and amount is below 90000000
rejects.py check FOLDER REDIRECT TARGET RECEIPT
    TARGET is a Parquet file, or text as psql's COPY ... CSV HEADER writes it
rejects.py mend FOLDER REDIRECT MENDED
    corrects the values in a redirect file, so that it can be copied in

Uses Python's csv module and pyarrow; nothing of the program under test.
"""

import csv
import datetime
import decimal
import json
import random
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


def check(folder, redirect, target, receipt):
    with open(f"{folder}/expected.json", encoding="utf-8") as file:
        expected = json.load(file)
    check_redirect(expected, redirect)
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
        assert receipt["skipped"]["byCode"] == {code: codes.count(code) for code in set(codes)}, receipt["skipped"]
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
