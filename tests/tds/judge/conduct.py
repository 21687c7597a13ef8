"""What clients do beside reading and writing: encrypt, be turned away, use transactions, meet errors, cancel, call procedures."""
import sys
import time

from clients import MssqlPython, Odbc, Pymssql, Pytds, Tedious, open_client, port_of

port = port_of()
problems = []
done = []


def expect(what, condition, seen=""):
    done.append(what)
    if not condition:
        problems.append(f"{what}: {str(seen)[:200]}")


def refused(what, number, part):
    """Runs a part that must fail with an error of this number or text."""
    try:
        part()
    except Exception as error:  # the client's own class, whichever it is
        expect(what, str(number) in repr(error) or str(number) in str(error) or getattr(error, "number", None) == number, repr(error))
    else:
        expect(what, False, "went well")


# Encryption: nothing or the log-in alone, everything, and the strict dialect.
for kind, ways in [(Pytds, ["no", "yes"]), (Pymssql, ["no"]), (MssqlPython, ["no", "yes", "strict"]), (Odbc, ["no", "yes"]), (Tedious, ["no", "yes", "strict"])]:
    for way in ways:
        try:
            client = open_client(kind, port, way)
        except Exception as error:
            expect(f"{kind.name} logs in with encryption {way}", False, repr(error))
            continue
        if client:
            rows = client.run("SELECT 1 AS one")
            expect(f"{kind.name} logs in with encryption {way}", [str(row[0]) for row in rows] == ["1"], rows)

clients = [client for client in (open_client(kind, port) for kind in [Pytds, Pymssql, MssqlPython, Odbc, Tedious]) if client]
if len(clients) < 4:
    print("SKIPPED: fewer than four clients are installed")
    sys.exit(0)

# Transactions and errors, by every client.
for client in clients:
    name = client.name
    table = "c_" + "".join(character for character in name if character.isalpha())
    client.run(f"CREATE TABLE {table} (id int NOT NULL PRIMARY KEY, name nvarchar(10) NULL)")
    client.run(f"BEGIN TRAN; INSERT INTO {table} VALUES (1, N'a'); ROLLBACK TRAN")
    expect(f"{name} rolls back", str(client.run(f"SELECT count(*) FROM {table}")[0][0]) == "0")
    client.run(f"BEGIN TRAN; INSERT INTO {table} VALUES (1, N'a'); COMMIT TRAN")
    expect(f"{name} commits", str(client.run(f"SELECT count(*) FROM {table}")[0][0]) == "1")
    refused(f"{name} sees a duplicate key", "PRIMARY KEY", lambda: client.run(f"INSERT INTO {table} VALUES (1, N'b')"))
    refused(f"{name} sees a missing table", "Invalid object name", lambda: client.run("SELECT * FROM no_such_table"))
    refused(f"{name} sees a missing column", "Invalid column name", lambda: client.run(f"SELECT nothing FROM {table}"))
    refused(f"{name} sees a NULL refused", "does not allow nulls", lambda: client.run(f"INSERT INTO {table}(name) VALUES (N'x')"))
    refused(f"{name} sees a cut value", "truncated", lambda: client.run(f"INSERT INTO {table} VALUES (7, N'longer than ten')"))
    refused(f"{name} sees an unknown statement", "Incorrect syntax", lambda: client.run("SELECT 1; BACKUP DATABASE x TO DISK = 'y'"))
    refused(f"{name} sees a missing procedure", "Could not find stored procedure", lambda: client.run("EXEC no_such_procedure"))
    expect(f"{name} works on", str(client.run("SELECT 2 + 2")[0][0]) == "4")

first = clients[0]

# Wrong passwords.
import pytds

try:
    pytds.connect("127.0.0.1", "fixture", "sa", "wrong", port=port)
    expect("a wrong password is refused", False)
except Exception as error:
    expect("a wrong password is refused", "Login failed" in str(error), error)
try:
    pytds.connect("127.0.0.1", "nowhere", "sa", "Fixture-Password-1", port=port)
    expect("a missing database is refused", False)
except Exception as error:
    expect("a missing database is refused", "Cannot open database" in str(error) or "Login failed" in str(error), error)

# A procedure with outputs and a status, by remote call.
first.run("CREATE PROCEDURE twice @b int OUTPUT, @a int, @text nvarchar(20) = N'none' AS BEGIN SET @b = @a * 2; SELECT @text AS said; RETURN 7 END")
cursor = first.connection.cursor()
cursor.callproc("twice", (pytds.output(param_type="int"), 21))
rows = cursor.fetchall()
outputs = cursor.get_proc_outputs()
expect("a procedure gives an output", cursor.get_proc_return_status() == 7 and 42 in list(outputs) and rows == [("none",)], (outputs, rows, cursor.get_proc_return_status()))

# Attention: a statement that would take long ends at once and the connection goes on.
for client in clients:
    if isinstance(client, Odbc):
        client.connection.timeout = 1
        started = time.monotonic()
        refused("pyodbc with Microsoft's driver cancels by its time limit", "HYT00", lambda: client.run("WAITFOR DELAY '00:00:20'"))
        expect("the cancelled statement ended early", time.monotonic() - started < 10)
        client.connection.timeout = 0
        expect("the connection goes on", client.run("SELECT 5")[0][0] == 5)
cursor = first.connection.cursor()
cursor.execute("SELECT a.object_id, b.object_id FROM sys.columns a CROSS JOIN sys.columns b CROSS JOIN sys.columns c")
cursor.fetchone()
cursor.cancel()
expect("python-tds cancels a long answer", first.run("SELECT 6")[0][0] == 6)

for problem in problems:
    print("PROBLEM:", problem)
print(f"{len(clients)} clients, {len(done)} checks, {len(problems)} problems")
sys.exit(1 if problems else 0)
