"""The rows that trials copy, made here and nowhere else: what a target must hold follows from them without the product.
They hold what a careless copy confuses: NULL and empty text, keys of two columns, equal rows but for one value."""

import datetime
import decimal

COLUMNS = ("id", "batch", "label", "amount", "at")
# What stands in the rows of a slice.
SLICE, OTHER_SLICE = "ab" * 32, "cd" * 32
START = datetime.datetime(2024, 1, 1)
CENT = decimal.Decimal("0.01")
LABELS = ("", "plain", "with, comma and \"quote\"", "tab\tand\nline", "äöü € 漢字", "\\N", "NULL", " spaces ")


def row(number, version):
    """One row of the source; versions differ in values, not in keys."""
    label = None if number % 11 == 0 else f"{LABELS[number % len(LABELS)]}{'' if number % 16 == 0 else number * version}"
    amount = None if number % 13 == 0 else (decimal.Decimal(number * 29 % 100_000) / 4 + version).quantize(CENT)
    at = None if number % 17 == 0 else START + datetime.timedelta(microseconds=number * 1_000_001 * version)
    return (number, 1 + number % 7, label, amount, at)


def source(count, version):
    return [row(number, version) for number in range(1, count + 1)]


def parts(rows):
    """The rows as a source of several parts has them: one much larger than the others, one empty."""
    first, second = len(rows) * 87 // 100, len(rows) * 96 // 100
    return [rows[:first], rows[first:second], [], rows[second:]]


def old():
    """What stands in a target before a copy."""
    return [
        (-number, 0, f"old {number}", (decimal.Decimal(number) / 4).quantize(CENT), START + datetime.timedelta(seconds=number))
        for number in range(1, 501)
    ]


def old_keyed():
    """Old rows of an upsert by (id, batch): some to be replaced, and some that share but one column of a key."""
    replaced = [(number, 1 + number % 7, "to be replaced", None, None) for number in range(1, 121)]
    kept = [(number, 100 + number % 7, "same id, another batch", None, None) for number in range(1, 121)]
    return old()[:200] + replaced + kept


def old_sliced():
    """Old rows with a sixth column: some of the slice, some of another, some of none."""
    rows = old()
    slices = (SLICE, OTHER_SLICE, None)
    return [(*row, slices[index % 3]) for index, row in enumerate(rows)]


def wanted(mode, rows, before):
    """What a target holds after a copy of `rows` in a mode, having held `before`."""
    if mode in ("overwrite", "new"):
        return rows
    if mode == "upsert":
        keys = {row[:2] for row in rows}
        return [row for row in before if row[:2] not in keys] + rows
    if mode == "slice":
        return [row for row in before if row[5] != SLICE] + [(*row, SLICE) for row in rows]
    return before + rows
