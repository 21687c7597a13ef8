"""Every type, read by every client; then written by each, by parameters and in bulk, and read by all the others."""
import sys

from clients import BULK, MssqlPython, READERS, WRITERS, open_client, port_of
from shapes import NAMES, SHAPES, create, insert, plain, rows

# What a client cannot say by its own nature. Its readings of these columns are compared as close, not as equal.
ROUGH = {
    # Numbers become JavaScript's floats; years before 100 and offsets are lost in its dates.
    "tedious": {"bigint", "smallmoney", "money", "decimal", "numeric"},
}
SKIPPED = {
    # FreeTDS's Python side rounds to milliseconds and knows no offsets as objects.
    "pymssql": {"dto"},
    "tedious": {"dto"},
}
# Kinds a client cannot write by parameters, with the reason it gives itself.
UNWRITABLE = {
    "python-tds": {"xml", "text", "ntext", "image"},
    "tedious": {"bigint", "numeric", "money", "smallmoney", "dto", "image", "text", "ntext"},
    "pymssql": {"dto"},
    "mssql-python": set(),
    # It binds times without their fraction and moments without their zone.
    "pyodbc with Microsoft's driver": {"time7", "dto"},
}
BULK_COLUMNS = [("id", "int"), ("bit", "bit"), ("int", "int"), ("float", "float"), ("date", "date"), ("nvarchar", "nvarchar(20)"), ("nvarcharmax", "nvarchar(max)"), ("guid", "uniqueidentifier")]
BULK_MORE = [("tinyint", "tinyint"), ("smallint", "smallint"), ("real", "real"), ("decimal", "decimal(10,2)"), ("varbinary", "varbinary(10)"), ("varbinarymax", "varbinary(max)"), ("time7", "time(7)"), ("datetime2_7", "datetime2(7)")]
# Clients that send no day before this year.
OLDEST_DAY = {MssqlPython: 1753}
problems = []


def check(client, what, query, want, only=NAMES):
    """Rows as a client reads them against the values they should be."""
    try:
        got = client.run(query)
    except Exception as error:  # the client's own class, whichever it is
        problems.append(f"{client.name}: {what}: cannot read: {type(error).__name__} {error}")
        return
    if len(got) != len(want):
        problems.append(f"{client.name}: {what}: {len(got)} rows instead of {len(want)}")
        return
    for number, (have, expected) in enumerate(zip(got, want)):
        for name, a, b in zip(only, have, expected):
            if name in SKIPPED.get(client.name, ()):
                continue
            a, b = plain(a), plain(b)
            if a == b:
                continue
            if a is not None and b is not None:
                if name == "guid" and a.lower() == b.lower():
                    continue
                if name in ("real", "float") and float(a) == float(b):
                    continue
                if name in ROUGH.get(client.name, ()) and abs(float(a) - float(b)) <= abs(float(b)) * 1e-12:
                    continue
            problems.append(f"{client.name}: {what}: row {number} column {name}: {str(a)[:60]!r} instead of {str(b)[:60]!r}")


port = port_of()
readers = [client for client in (open_client(kind, port) for kind in READERS) if client]
if len(readers) < 4:
    print("SKIPPED: fewer than four clients are installed")
    sys.exit(0)
first = readers[0]
columns = ", ".join(f"[{name}]" for name in NAMES)

# Written as text, read by all.
first.run(create("wide"))
for number, pick in enumerate((0, 1, None)):
    first.run(insert("wide", number, pick))
for client in readers:
    check(client, "written as text", f"SELECT {columns} FROM wide ORDER BY id", rows())

# Written by parameters, read by all. What a client cannot say is left NULL.
for kind in WRITERS:
    # A writer of its own, so that its failure leaves the readers alone.
    writer = open_client(kind, port)
    if writer is None:
        continue
    table = f"by_{kind.__name__.lower()}"
    writer.run(create(table))
    unwritable = UNWRITABLE[writer.name]
    given = [[None if name in unwritable else value for name, value in zip(NAMES, row)] for row in rows()]
    if kind in OLDEST_DAY:
        given = [[None if getattr(value, "year", 9999) < OLDEST_DAY[kind] else value for value in row] for row in given]
    for number, row in enumerate(given):
        try:
            writer.write(table, number, row)
        except Exception as error:  # the client's own class, whichever it is
            problems.append(f"{writer.name} cannot write row {number}: {type(error).__name__} {error}")
    for client in readers:
        check(client, f"written by {writer.name}", f"SELECT {columns} FROM {table} ORDER BY id", given)

# Loaded in bulk, read by all.
for kind in BULK:
    loader = open_client(kind, port)
    if loader is None:
        continue
    chosen = BULK_COLUMNS if loader.name == "freebcp" else BULK_COLUMNS + BULK_MORE
    table = f"bulk_{kind.__name__.lower()}"
    first.run(f"CREATE TABLE {table} ({', '.join(f'[{name}] {declared}' + (' NOT NULL' if name == 'id' else ' NULL') for name, declared in chosen)})")
    names = [name for name, _ in chosen if name != "id"]
    given = [[dict(zip(NAMES, row))[name] for name in names] for row in rows()]
    if loader.name == "freebcp":
        given = [["1" if value is True else "0" if value is False else value for value in row] for row in given]
        # It reads a year of one digit as one of this century.
        given[0] = ["1753-01-01" if name == "date" else value for name, value in zip(names, given[0])]
        given[1] = [None if isinstance(value, str) and "\n" in value else value for value in given[1]]
    try:
        loader.bulk(table, [[number, *row] for number, row in enumerate(given)], chosen)
    except Exception as error:
        problems.append(f"{loader.name} cannot load: {type(error).__name__} {error}")
        continue
    for client in readers:
        check(client, f"loaded by {loader.name}", f"SELECT {', '.join(f'[{name}]' for name in names)} FROM {table} ORDER BY id", given, names)

for problem in problems:
    print("PROBLEM:", problem)
print(f"{len(readers)} readers, {len(WRITERS)} writers, {len(BULK)} loaders, {len(SHAPES)} types, {len(problems)} problems")
sys.exit(1 if problems else 0)
