"""The judge: what a target holds, read with other people's drivers, as a multiset of rows that must be equal to the one
that is wanted, value by value."""

import collections
import datetime
import decimal
import io
import os

from rows import CENT, COLUMNS

ABSENT = "absent"


class Content:
    """Rows and how often each occurs."""

    def __init__(self, rows):
        self.rows = collections.Counter(map(tuple, rows))

    def __eq__(self, other):
        return isinstance(other, Content) and self.rows == other.rows

    def count(self):
        return self.rows.total()

    def difference(self, wanted):
        """How this differs from what was wanted, in words."""
        missing, extra = wanted.rows - self.rows, self.rows - wanted.rows
        doubled = sum(1 for row, count in extra.items() if wanted.rows.get(row) and count)
        here = {row[:2]: row for row in extra}
        changed = [(row, here[row[:2]]) for row in missing if row[:2] in here]
        columns = {name for one, two in changed for name, a, b in zip((*COLUMNS, "slice"), one, two) if a != b}
        return (
            f"{self.count()} rows instead of {wanted.count()}, {missing.total()} missing, {extra.total()} too many, "
            f"{doubled} of them doubled, columns that differ: {', '.join(sorted(columns)) or 'none'}; "
            f"missing {next(iter(missing), None)}, too many {next(iter(extra), None)}"
        )


def say(content, wanted):
    if ABSENT in (content, wanted):
        words = ["absent" if it == ABSENT else f"{it.count()} rows" for it in (content, wanted)]
        return f"{words[0]}, wanted {words[1]}"
    return content.difference(wanted)


def parquet_rows(table):
    return zip(*(table.column(name).to_pylist() for name in COLUMNS))


def parquet(source):
    """Of a file or its bytes."""
    import pyarrow.parquet

    if isinstance(source, str) and not os.path.exists(source):
        return ABSENT
    source = io.BytesIO(source) if isinstance(source, bytes) else source
    return Content(parquet_rows(pyarrow.parquet.read_table(source)))


def typed(row):
    """A row of a store that has neither decimals nor timestamps."""
    amount, at = row[3:5]
    if amount is not None:
        amount = decimal.Decimal(str(amount)).quantize(CENT)
    if isinstance(at, str):
        at = datetime.datetime.fromisoformat(at.replace("T", " ").rstrip("Z"))
    return (*row[:3], amount, at, *row[5:])
