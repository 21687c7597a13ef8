"""What few clients know: CLR types as bytes, row versions, variants of every base type; those that know them must agree."""
import sys

from clients import MssqlPython, Odbc, Pymssql, Pytds, Tedious, open_client, port_of
from shapes import plain

port = port_of()
clients = [client for client in (open_client(kind, port) for kind in [Pytds, Pymssql, MssqlPython, Odbc, Tedious]) if client]
if len(clients) < 4:
    print("SKIPPED: fewer than four clients are installed")
    sys.exit(0)
problems = []
clients[0].run("CREATE TABLE u (id int NOT NULL, h hierarchyid NULL, g geography NULL, m geometry NULL, v rowversion)")
clients[0].run("INSERT INTO u (id, h, g, m) VALUES (1, 0x5AC0, 0xE6100000010C, 0x00000000010C00), (2, NULL, NULL, NULL)")
wanted = [("5ac0", "e6100000010c", "00000000010c00"), (None, None, None)]
versions = set()
for client in clients:
    if isinstance(client, Odbc):
        client.connection.add_output_converter(-151, lambda raw: raw)
    rows = client.run("SELECT h, g, m, v FROM u ORDER BY id")
    seen = [tuple(plain(cell) for cell in row[:3]) for row in rows]
    versions.add(tuple(plain(row[3]) for row in rows))
    if seen != wanted:
        problems.append(f"{client.name}: CLR types: {seen}")
if len(versions) != 1 or len(set(versions.copy().pop())) != 2:
    problems.append(f"row versions: {versions}")

VARIANTS = [
    ("CAST(1 AS bit)", "1"), ("CAST(255 AS tinyint)", "255"), ("CAST(-1 AS smallint)", "-1"), ("CAST(-7 AS int)", "-7"),
    ("CAST(7 AS bigint)", "7"), ("CAST(1.5 AS real)", "1.5"), ("CAST(2.5 AS float)", "2.5"), ("CAST(1.23 AS money)", "1.23"),
    ("CAST(-1.23 AS smallmoney)", "-1.23"), ("CAST('2024-02-29' AS date)", "2024-02-29"),
    ("CAST('12:34:56.123456' AS time(7))", "12:34:56.123456"), ("CAST('2024-02-29 12:00' AS datetime)", "2024-02-29T12:00:00.000000"),
    ("CAST('2024-02-29 12:00' AS smalldatetime)", "2024-02-29T12:00:00.000000"),
    ("CAST('2024-02-29 12:00:00.123456' AS datetime2(7))", "2024-02-29T12:00:00.123456"), ("CAST('abc' AS varchar(10))", "abc"),
    ("CAST('abc' AS char(4))", "abc "), ("CAST(N'\u017c' AS nchar(3))", "\u017c  "), ("CAST(N'\u00e4' AS nvarchar(5))", "\u00e4"),
    ("CAST(0x0102 AS varbinary(4))", "0102"), ("CAST(0x01 AS binary(2))", "0100"),
    ("CAST('00112233-4455-6677-8899-AABBCCDDEEFF' AS uniqueidentifier)", "00112233-4455-6677-8899-aabbccddeeff"),
    ("CAST(-12.345 AS numeric(38,3))", "-12.345"),
]
# FreeTDS below pymssql hands variants out as they are; pyodbc knows only some base types.
for client in clients:
    if isinstance(client, (Pymssql, Odbc)):
        continue
    for expression, want in VARIANTS:
        got = plain(client.run(f"SELECT CAST({expression} AS sql_variant)")[0][0])
        if isinstance(client, Tedious) and "AS date)" in expression:
            got = got[:10]
        if isinstance(client, Tedious) and "AS time" in expression:
            got = got[11:]
        if got.lower() != want.lower() and not (isinstance(client, Tedious) and got == str(float(want)) if want.replace(".", "").replace("-", "").isdigit() else False):
            problems.append(f"{client.name}: variant of {expression}: {got} instead of {want}")
for problem in problems:
    print("PROBLEM:", problem)
print(f"{len(clients)} clients, {len(VARIANTS)} variants, {len(problems)} problems")
sys.exit(1 if problems else 0)
