"""Hot loops as instructions per row, counted by callgrind. Used by bench.py.

Each loop runs as a process of its own over N and over 2 N rows; the difference divided by N is what a row costs, and
start-up, connecting and planning fall out. Only our process is counted, in user space: neither servers nor the system.
Unlike seconds, the figures hardly depend on what else the machine does.
"""

import json
import os
import re
import subprocess
from urllib.parse import urlparse

from pairs import COLUMNS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SERVER_ROWS = 40_000
TDS_ROWS = 10_000
FILE_ROWS = 131_072
TEXTS = {"l_returnflag": 1, "l_linestatus": 1, "l_shipinstruct": 25, "l_shipmode": 10, "l_comment": 44}


class Instructions:
    """Mixed into the bench."""

    def count(self, environment, *arguments):
        """Instructions of one run; the programme prints how many rows it saw, or bytes."""
        path = os.path.join(self.folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={path}", self.counted, *map(str, arguments)]
        ended = subprocess.run(command, env=dict(os.environ, **environment), capture_output=True, text=True)
        if ended.returncode != 0:
            raise SystemExit(f"{arguments} ended with {ended.returncode}: {ended.stderr[:2000]}")
        with open(path) as file:
            total = int(re.search(r"^(?:summary|totals): (\d+)", file.read(), re.M).group(1))
        keep = os.environ.get("DMG_BENCH_CALLGRIND")
        if keep:
            os.replace(path, os.path.join(keep, "-".join(map(str, arguments)).replace("/", "_")[:60] + ".callgrind"))
        return int(ended.stdout), total

    def per_row(self, what, rows, environment, once, twice):
        (few, less), (many, more) = self.count(environment, *once), self.count(environment, *twice)
        if once[0] not in ("encode",) and (few, many) != (rows, 2 * rows):
            raise SystemExit(f"{what} saw {few} and {many} rows instead of {rows} and {2 * rows}")
        result = (more - less) / rows
        print(f"  {what}: {result:,.0f} instructions per row", flush=True)
        return result

    def run_counted(self, environment, *arguments):
        ended = subprocess.run([self.counted, *map(str, arguments)], env=dict(os.environ, **environment),
                               capture_output=True, text=True)
        if ended.returncode != 0:
            raise SystemExit(f"{arguments} ended with {ended.returncode}: {ended.stderr[:2000]}")

    def of_store(self, store, environment, title, rows):
        """Reading and writing of a store whose tables `counted1` and `counted2` are filled."""
        return [
            (f"{title} read", self.per_row(f"{title} read", rows, environment, ("read", store, "counted1"),
                                           ("read", store, "counted2"))),
            (f"{title} write", self.per_row(f"{title} write", rows, environment, ("write", store, "counted0", rows),
                                            ("write", store, "counted0", 2 * rows))),
        ]

    def fill(self, store, environment, run, rows):
        run(f"CREATE TABLE counted0 ({self.columns_of(store)})")
        for number in (1, 2):
            run(f"CREATE TABLE counted{number} ({self.columns_of(store)})")
            self.run_counted(environment, "fill", store, f"counted{number}", number * rows)

    def columns_of(self, store):
        return COLUMNS.replace("integer", "int") if store == "sqlserver" else COLUMNS

    def settings(self, variable):
        place = urlparse(os.environ[variable])
        settings = {"host": place.hostname, "port": place.port, "database": place.path[1:], "user": place.username}
        password = open(os.environ[variable + "_PASSWORD_FILE"]).read().strip()
        return {"DMG_COUNT_SETTINGS": json.dumps(settings), "DMG_COUNT_PASSWORD": password}

    def of_servers(self):
        results = []
        postgres = self.settings("DMG_TEST_POSTGRES")
        self.maria_command
        maria = self.settings("DMG_TEST_MARIADB")
        for store, environment, run, title in (
            ("postgres", postgres, self.psql, "PostgreSQL, binary COPY,"),
            ("mysql", maria, self.maria, "MariaDB, text rows and LOAD DATA,"),
        ):
            drop = "DROP TABLE IF EXISTS counted0, counted1, counted2"
            try:
                run(drop)
                self.fill(store, environment, run, SERVER_ROWS)
                results += self.of_store(store, environment, title, SERVER_ROWS)
            finally:
                run(drop)
        return results

    def of_files(self):
        results = []
        for format, title in (("text", "Delimited text"), ("parquet", "Parquet, snappy,")):
            rows = FILE_ROWS
            encode = self.per_row(f"{title} encode", rows, {}, ("encode", format, rows), ("encode", format, 2 * rows))
            both = self.per_row(f"{title} both", rows, {}, ("decode", format, rows), ("decode", format, 2 * rows))
            results += [(f"{title} encode", encode), (f"{title} decode", both - encode)]
        digest = self.per_row("Digest", FILE_ROWS, {}, ("digest", FILE_ROWS), ("digest", 2 * FILE_ROWS))
        return results + [("Digest of all columns and of the row", digest)]

    def of_tds(self):
        """Both drivers against the fixture: the same rows, the same bytes on the wire."""
        fixture = subprocess.Popen([self.fixture], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            port = int(fixture.stdout.readline().split()[1])
            # A log-in takes long where every instruction is counted; most of it is reading the system's authorities.
            settings = {"host": "127.0.0.1", "port": port, "database": "fixture", "user": "sa", "encrypt": "optional",
                        "connectTimeoutSeconds": 600}
            environment = {"DMG_COUNT_SETTINGS": json.dumps(settings), "DMG_COUNT_PASSWORD": "Fixture-Password-1",
                           "SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/dev/null"}
            self.fill("sqlserver", environment, lambda sql: self.run_counted(environment, "tds-script", sql), TDS_ROWS)
            ours = self.of_store("sqlserver", environment, "tiberius", TDS_ROWS)
            names = re.findall(r"(l_\w+) ", COLUMNS)
            cast = ", ".join(f"CAST([{name}] AS nvarchar({TEXTS[name]})) AS [{name}]" if name in TEXTS else f"[{name}]"
                             for name in names)
            rows = TDS_ROWS
            read = [self.per_row(f"mssql-tds read, {what}", rows, environment,
                                 *(("mssql-tds-read", f"SELECT {columns} FROM counted{n}") for n in (1, 2)))
                    for what, columns in (("the same statement", cast), ("columns as they are", "*"))]
            write = self.per_row("mssql-tds write", rows, environment, ("mssql-tds-write", "counted0", rows),
                                 ("mssql-tds-write", "counted0", 2 * rows))
            return [value for _, value in ours], read, write
        finally:
            fixture.stdin.close()
            fixture.wait()

    def instructions(self):
        build = ["cargo", "build", "--release", "--target-dir", os.path.join(ROOT, "target/bench")]
        own = os.path.join(HERE, "instructions")
        self.counted, self.fixture = self.given.counted, self.given.fixture
        if not self.counted:
            subprocess.run(build, cwd=own, check=True)
            subprocess.run([*build, "--package", "dmg-tds-fixture"], cwd=ROOT, check=True)
            self.counted = os.path.join(ROOT, "target/bench/release/dmg-instructions")
            self.fixture = os.path.join(ROOT, "target/bench/release/tds-fixture")
        loops = self.of_files() + self.of_servers()
        (read, write), (same, plain), load = self.of_tds()
        table = "\n".join(f"| {name} | {value:,.0f} |" for name, value in loops)
        valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True).stdout.strip()
        locked = open(os.path.join(own, "Cargo.lock")).read()
        version = lambda name: re.search(rf'name = "{name}"\nversion = "([^"]+)"', locked).group(1)
        self.sections.append(f"""## Instructions per row

Rows of sixteen columns as in lineitem, counted by {valgrind.replace('-', ' ')} (callgrind) in our process alone and in user space: what N more rows
cost. From the socket or the file's bytes to Arrow, and from Arrow to the socket or the bytes.

| loop | instructions per row |
| --- | --- |
{table}

SQL Server's protocol, against the fixture, the log-in alone encrypted. `tiberius` {version('tiberius')} is our connector as it is; `mssql-tds` {version('mssql-tds')} is that
driver alone: its `RowWriter` straight into Arrow builders, its bulk load value by value from Arrow with text in UTF-16. What
follows from it: `docs/decisions/0009-tiberius-behind-a-trait.md`.

| what | `tiberius`, our connector | `mssql-tds`, the driver alone |
| --- | --- | --- |
| read, the statement our connector sends | {read:,.0f} | {same:,.0f} |
| read, `char` and `varchar` as they are | not done: it knows no UTF-8 collation | {plain:,.0f} |
| bulk load | {write:,.0f} | {load:,.0f} |
""")
