"""A server that requires encryption: clients that can encrypt do so, and one that cannot is turned away."""
import sys

from clients import MssqlPython, Odbc, Tedious, open_client, port_of

port = port_of()
problems = []
tried = 0
for kind, asked in [(MssqlPython, "no"), (Odbc, "no"), (Tedious, "yes")]:
    client = open_client(kind, port, asked)
    if client:
        tried += 1
        if str(client.run("SELECT 1 AS one")[0][0]) != "1":
            problems.append(f"{kind.name} reads something else")
try:
    import pytds

    pytds.connect("127.0.0.1", "fixture", "sa", "Fixture-Password-1", port=port, login_timeout=5)
    problems.append("python-tds without encryption was let in")
except ImportError:
    print("SKIPPED: python-tds is not installed")
except Exception:
    tried += 1
for problem in problems:
    print("PROBLEM:", problem)
print(f"{tried} clients, {len(problems)} problems")
sys.exit(1 if problems else 0)
