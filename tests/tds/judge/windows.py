"""Unrelated clients log in with an account of Windows by NTLM: FreeTDS (tsql, and inside pymssql), ntlm-auth and pyspnego."""
import os
import subprocess
import sys

from clients import DATABASE, port_of

port = port_of()
ACCOUNT, PASSWORD = "CORP\\etl", "Grüße-Windows-1"
problems, tried = [], 0


def pymssql_client(user, password):
    import pymssql
    cursor = pymssql.connect("127.0.0.1", user, password, DATABASE, port=str(port), tds_version="7.4", charset="UTF-8").cursor()
    cursor.execute("SELECT 1 AS one")
    return cursor.fetchone()[0]


def tsql(user, password):
    environment = dict(os.environ, TDSVER="7.4", LC_ALL="C.UTF-8")
    arguments = ["tsql", "-H", "127.0.0.1", "-p", str(port), "-U", user, "-P", password, "-D", DATABASE, "-o", "q"]
    ran = subprocess.run(arguments, input="SELECT 1 AS one\ngo\nexit\n", capture_output=True, text=True, timeout=60, env=environment)
    lines = ran.stdout.split()
    if "one" not in lines:
        raise RuntimeError(ran.stdout + ran.stderr)
    return int(lines[lines.index("one") + 1])


def pytds_client(auth):
    def run(user, password):
        import pytds
        login = auth(user, password)
        with pytds.connect("127.0.0.1", DATABASE, auth=login, port=port, cafile=os.environ["TDS_CERTIFICATE"], validate_host=False) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT 1 AS one")
            return cursor.fetchone()[0]
    return run


def ntlm_auth(user, password):
    import hashlib
    import ntlm_auth.ntlm  # noqa: F401
    from pytds.login import NtlmAuth
    from spnego._ntlm_raw.md4 import md4
    real = hashlib.new

    class Md4:
        def __init__(self, data):
            self.digest = lambda: md4(data)

    # OpenSSL no longer gives it, and ntlm-auth knows no other.
    hashlib.new = lambda name, data=b"", **more: Md4(data) if name == "md4" else real(name, data, **more)
    return NtlmAuth(user, password)


def spnego_auth(user, password):
    import spnego  # noqa: F401
    from pytds.login import SpnegoAuth
    return SpnegoAuth(user, password, hostname="127.0.0.1", service="MSSQLSvc", protocol="ntlm")


for name, client in [("pymssql", pymssql_client), ("tsql", tsql), ("ntlm-auth", pytds_client(ntlm_auth)), ("pyspnego", pytds_client(spnego_auth))]:
    try:
        if client(ACCOUNT, PASSWORD) != 1:
            problems.append(f"{name} reads something else")
    except (ImportError, FileNotFoundError) as missing:
        print(f"SKIPPED: {name} is not installed: {missing}")
        continue
    except Exception as error:
        problems.append(f"{name} is not let in: {error}")
    tried += 1
    for user, password in [(ACCOUNT, "wrong"), ("OTHER\\etl", PASSWORD), ("CORP\\other", PASSWORD)]:
        try:
            client(user, password)
            problems.append(f"{name} is let in as {user} with {password}")
        except Exception:
            pass
for problem in problems:
    print("PROBLEM:", problem)
print(f"{tried} clients, {len(problems)} problems")
sys.exit(1 if problems else 0)
