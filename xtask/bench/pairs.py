"""The pairs of stores that involve a database sink or MariaDB, each against its peer. Used by bench.py.

Every contestant writes into a table it finds missing or empty, and the judge of rows and of one decimal sum is the
server itself. Seconds of servers are read from /proc, so that a cost that moved to the server is not a cost saved.
"""

import os
import statistics
import subprocess
import sys
from urllib.parse import urlparse

from measure import Measured, Rounds

COLUMNS = """l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL,
 l_linenumber integer NOT NULL, l_quantity decimal(15,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL,
 l_discount decimal(15,2) NOT NULL, l_tax decimal(15,2) NOT NULL, l_returnflag char(1) NOT NULL,
 l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
 l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL"""

DUCKDB = """
import sys
import duckdb
from duckdb_extensions import import_extension
c = duckdb.connect()
for name in sys.argv[1].split(','):
    import_extension(name)
    c.execute('LOAD ' + name)
c.execute('SET enable_progress_bar = false')
for statement in sys.argv[2:]:
    c.execute(statement)
"""

CONNECTORX = """
import sys
import connectorx, pyarrow.parquet
url = sys.argv[1].replace('@', ':' + open(sys.argv[2]).read().strip() + '@', 1)
reader = connectorx.read_sql(url, 'SELECT * FROM lineitem', partition_on='l_orderkey', partition_num=2,
                             return_type='arrow_stream', batch_size=65536)
writer = None
for batch in reader:
    writer = writer or pyarrow.parquet.ParquetWriter(sys.argv[3], batch.schema, compression='snappy')
    writer.write_batch(batch)
writer.close()
"""


def cpu_of(pid):
    """CPU seconds of a server with all it started, living or gone."""
    total = 0.0
    pids, index = [pid], 0
    while index < len(pids):
        try:
            for task in os.listdir(f"/proc/{pids[index]}/task"):
                with open(f"/proc/{pids[index]}/task/{task}/children") as file:
                    pids += [int(child) for child in file.read().split()]
            with open(f"/proc/{pids[index]}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += sum(int(value) for value in (fields[11:13] if index else fields[11:15]))
        except OSError:
            pass
        index += 1
    return total / os.sysconf("SC_CLK_TCK")


class Pairs:
    """Mixed into the bench, which has psql(), dmg(), rounds and sections."""

    def maria(self, sql, check=True):
        return subprocess.run(self.maria_command + ["-e", sql], check=check, capture_output=True, text=True).stdout

    @property
    def maria_command(self):
        if not hasattr(self, "_maria"):
            place = urlparse(os.environ["DMG_TEST_MARIADB"])
            password = open(os.environ["DMG_TEST_MARIADB_PASSWORD_FILE"]).read().strip()
            path = os.path.join(self.folder, "maria.cnf")
            with open(path, "w") as file:
                file.write(f"[client]\nhost={place.hostname}\nport={place.port}\nuser={place.username}\n"
                           f'password="{password}"\nprotocol=tcp\nlocal-infile=1\n')
            os.chmod(path, 0o600)
            self._maria = ["mariadb", f"--defaults-extra-file={path}", "--batch", "--skip-column-names", place.path[1:]]
            self.maria_duckdb = (f"host={place.hostname} port={place.port} user={place.username} "
                                 f"password={password} database={place.path[1:]}")
        return self._maria

    def servers_cpu(self):
        pids = [os.environ.get(f"DMG_TEST_{name}_PID") for name in ("POSTGRES", "MARIADB")]
        return sum(cpu_of(int(pid)) for pid in pids if pid)

    def shell(self, command):
        return Measured(["bash", "-c", "set -o pipefail; " + command], environment=self.environment)

    def python(self, script, *arguments):
        return Measured([sys.executable, "-c", script, *arguments], environment=self.environment)

    def copied(self, source, sink, verify, *more):
        """`dmg copy` of lineitem; gives what was measured and the receipt."""
        return self.dmg_pair([*source], [*sink], verify, *more)

    def postgres_side(self, table="lineitem"):
        return [self.url, "--secret-file", self.password_file, "--table", table]

    def maria_side(self, table="lineitem"):
        return [os.environ["DMG_TEST_MARIADB"], "--secret-file", os.environ["DMG_TEST_MARIADB_PASSWORD_FILE"], "--table", table]

    def postgres_check(self, table):
        rows, total = self.psql(f"SELECT count(*), sum(l_extendedprice) FROM {table}").strip().split("|")
        wanted = self.psql("SELECT count(*), sum(l_extendedprice) FROM lineitem").strip().split("|")
        if [rows, total] != wanted:
            raise SystemExit(f"{table} holds {rows} rows, sum {total}, instead of {wanted}")

    def files_of_lineitem(self):
        """The same rows as text and as Parquet, made once by other programs."""
        self.text = os.path.join(self.folder, "lineitem.csv")
        self.tabbed = os.path.join(self.folder, "lineitem.tsv")
        self.parquet = os.path.join(self.folder, "lineitem.parquet")
        if os.path.exists(self.parquet):
            return
        for path, form in ((self.text, "FORMAT csv, HEADER"), (self.tabbed, "FORMAT text")):
            with open(path, "wb") as file:
                subprocess.run(["psql", "-qAtX", self.connection, "-c", f"COPY lineitem TO STDOUT ({form})"],
                               env=self.environment, stdout=file, check=True)
        self.python(DUCKDB, "postgres_scanner", f"ATTACH '{self.connection}' AS pg (TYPE postgres, READ_ONLY)",
                    f"COPY pg.lineitem TO '{self.parquet}' (FORMAT parquet, COMPRESSION snappy)")

    def maria_load(self):
        """lineitem in MariaDB, with the primary key that TPC-H gives it."""
        if self.maria("SHOW TABLES LIKE 'lineitem'").strip():
            return
        self.files_of_lineitem()
        print("loading lineitem into MariaDB", flush=True)
        self.maria(f"CREATE TABLE lineitem ({COLUMNS}, PRIMARY KEY (l_orderkey, l_linenumber))")
        self.maria(f"LOAD DATA LOCAL INFILE '{self.tabbed}' INTO TABLE lineitem")
        self.maria("ANALYZE TABLE lineitem")

    def postgres_back(self):
        """What PostgreSQL alone needs to give the rows of `copied` back once: no proof by reading back costs less."""
        before = self.servers_cpu()
        Measured((["psql", "-qAtX", self.connection, "-c", "COPY copied TO STDOUT (FORMAT binary)"], subprocess.DEVNULL),
                 environment=self.environment)
        return self.servers_cpu() - before

    def pair(self, title, prepare, check, contestants, figures, back=None):
        """Alternating rounds of the contestants. `figures` are (text, name, against, wanted); `back` measures what the
        server alone needs to give the rows back."""
        rounds, servers, least = Rounds(), {}, []
        for number in range(self.given.rounds + 1):
            print("warm-up" if number == 0 else f"round {number}", flush=True)
            for name, run in contestants.items():
                prepare(name)
                before = self.servers_cpu()
                result = run()
                measured, note = result if isinstance(result, tuple) else (result, None)
                used = self.servers_cpu() - before
                if back and name == "dmg copy" and number > 0:
                    least.append(back())
                check(name)
                if number > 0:
                    rounds.add(name, measured, note)
                    servers.setdefault(name, []).append(used)
        lines = [f"## {title}\n", rounds.table(list(contestants)), "", "| figure | measured | wanted |", "| --- | --- | --- |"]
        for text, name, against, wanted in figures:
            lines.append(f"| {text} | {rounds.median(name) / rounds.median(against):.2f} | ≤ {wanted:.2f} |")
        whole = {name: rounds.median(name, "cpu") + statistics.median(servers[name]) for name in contestants}
        if "dmg copy" in whole:
            extra = whole["dmg copy"] / whole["dmg copy --verify none"] - 1
            lines.append(f"| cost of proof: CPU seconds of client and servers beyond the unverified copy | {extra:.0%} | ≤ 60% |")
            if least:
                share = statistics.median(least) / whole["dmg copy --verify none"]
                lines.append(f"| of it, what the server alone spends to give the rows back once (`COPY … TO STDOUT`) | {share:.0%} | |")
            receipt = rounds.notes["dmg copy"][-1]
            peak = max(run.pss_mib for name in contestants if name.startswith("dmg") for run in rounds.runs[name])
            lines.append(f"| peak PSS of dmg | {peak:.0f} MiB | ≤ 256 MiB |")
            stages = ", ".join(f"{stage['stage']} {stage['seconds']:.2f} s" for stage in receipt["stages"])
            held = receipt["bottleneck"].get("verdict", "")
            lines.append(f"\nShape {receipt['shape']}, evidence {receipt['evidence']}; stages of the last verified run: {stages}"
                         + (f"; held back by {held}" if held else "") + ".")
        lines.append("CPU seconds with servers: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in whole.items()) + ".\n")
        self.sections.append("\n".join(lines))
        print(self.sections[-1], flush=True)

    # --- the pairs -----------------------------------------------------------------------------------------------

    def pg_pg(self):
        def prepare(name):
            self.psql("DROP TABLE IF EXISTS copied")
            if not name.startswith("dmg"):
                self.psql("CREATE TABLE copied (LIKE lineitem INCLUDING ALL)")
            self.psql("CHECKPOINT")
        pipe = (f"psql -qAtX '{self.connection}' -c 'COPY lineitem TO STDOUT (FORMAT binary)' | "
                f"psql -qAtX '{self.connection}' -c 'COPY copied FROM STDIN (FORMAT binary)'")
        dmg = lambda verify: self.copied(self.postgres_side(), self.postgres_side("copied"), verify, "--create-table")
        self.pair("PostgreSQL to PostgreSQL, new table", prepare, lambda name: self.postgres_check("copied"), {
            "psql COPY (binary) | psql COPY": lambda: self.shell(pipe),
            "DuckDB": lambda: self.python(DUCKDB, "postgres_scanner", f"ATTACH '{self.connection}' AS pg (TYPE postgres)",
                                          "INSERT INTO pg.copied SELECT * FROM pg.lineitem"),
            "dmg copy --verify none": lambda: dmg("none"),
            "dmg copy": lambda: dmg("transferred"),
        }, [("--verify none against the pipe", "dmg copy --verify none", "psql COPY (binary) | psql COPY", 1.1),
            ("verify on against DuckDB", "dmg copy", "DuckDB", 1.0)], self.postgres_back)

    def maria_parquet(self):
        self.maria_command
        self.maria_load()
        path = os.path.join(self.folder, "maria.parquet")

        def check(name):
            import pyarrow.parquet
            rows = pyarrow.parquet.ParquetFile(path).metadata.num_rows
            if rows != self.rows:
                raise SystemExit(f"{name}: {rows} rows")
            os.remove(path)
        url, password = os.environ["DMG_TEST_MARIADB"], os.environ["DMG_TEST_MARIADB_PASSWORD_FILE"]
        self.pair("MariaDB to one local Parquet file", lambda name: None, check, {
            "connectorx, streaming, 2 partitions": lambda: self.python(CONNECTORX, url, password, path),
            "dmg copy --verify none": lambda: self.copied(self.maria_side(), ["file:" + path], "none"),
            "dmg copy": lambda: self.copied(self.maria_side(), ["file:" + path], "transferred"),
        }, [("verify on against connectorx", "dmg copy", "connectorx, streaming, 2 partitions", 1.1)])

    def maria_pg(self):
        self.maria_command
        self.maria_load()

        def prepare(name):
            self.psql("DROP TABLE IF EXISTS copied")
            self.psql("CREATE TABLE copied (LIKE lineitem INCLUDING ALL)")
            self.psql("CHECKPOINT")
        pipe = (" ".join(self.maria_command) + " --quick -e 'SELECT * FROM lineitem' | "
                f"psql -qAtX '{self.connection}' -c 'COPY copied FROM STDIN'")
        dmg = lambda verify: self.copied(self.maria_side(), self.postgres_side("copied"), verify, "--mode", "overwrite")
        self.pair("MariaDB to PostgreSQL", prepare, lambda name: self.postgres_check("copied"), {
            "mariadb | psql COPY": lambda: self.shell(pipe),
            "DuckDB": lambda: self.python(DUCKDB, "postgres_scanner,mysql_scanner",
                                          f"ATTACH '{self.connection}' AS pg (TYPE postgres)",
                                          f"ATTACH '{self.maria_duckdb}' AS my (TYPE mysql, READ_ONLY)",
                                          "INSERT INTO pg.copied SELECT * FROM my.lineitem"),
            "dmg copy --verify none": lambda: dmg("none"),
            "dmg copy": lambda: dmg("transferred"),
        }, [("--verify none against the pipe", "dmg copy --verify none", "mariadb | psql COPY", 1.1),
            ("verify on against DuckDB", "dmg copy", "DuckDB", 0.7)], self.postgres_back)

    def text_pg(self):
        self.files_of_lineitem()

        def prepare(name):
            self.psql("DROP TABLE IF EXISTS copied")
            self.psql("CREATE TABLE copied (LIKE lineitem INCLUDING ALL)")
            self.psql("CHECKPOINT")
        load = f"psql -qAtX '{self.connection}' -c \"\\copied FROM '{self.text}' (FORMAT csv, HEADER)\"".replace("\\copied", "\\copy copied")
        dmg = lambda verify: self.copied(["file:" + self.text], self.postgres_side("copied"), verify, "--mode", "overwrite")
        self.pair("Delimited text to PostgreSQL", prepare, lambda name: self.postgres_check("copied"), {
            "psql \\copy csv": lambda: self.shell(load),
            "dmg copy --verify none": lambda: dmg("none"),
            "dmg copy": lambda: dmg("transferred"),
        }, [("--verify none against \\copy", "dmg copy --verify none", "psql \\copy csv", 0.75),
            ("verify on against \\copy", "dmg copy", "psql \\copy csv", 1.1)], self.postgres_back)

    def parquet_pg(self):
        self.files_of_lineitem()

        def prepare(name):
            self.psql("DROP TABLE IF EXISTS copied")
            self.psql("CREATE TABLE copied (LIKE lineitem INCLUDING ALL)")
            self.psql("CHECKPOINT")
        dmg = lambda verify: self.copied(["file:" + self.parquet], self.postgres_side("copied"), verify, "--mode", "overwrite")
        self.pair("Parquet to PostgreSQL, the same table definition for both", prepare, lambda name: self.postgres_check("copied"), {
            "DuckDB": lambda: self.python(DUCKDB, "postgres_scanner", f"ATTACH '{self.connection}' AS pg (TYPE postgres)",
                                          f"INSERT INTO pg.copied SELECT * FROM '{self.parquet}'"),
            "dmg copy --verify none": lambda: dmg("none"),
            "dmg copy": lambda: dmg("transferred"),
        }, [("--verify none against DuckDB", "dmg copy --verify none", "DuckDB", 1.0),
            ("verify on against DuckDB", "dmg copy", "DuckDB", 1.5)], self.postgres_back)

    def parquet_maria(self):
        self.maria_command
        self.files_of_lineitem()

        def prepare(name):
            self.maria("DROP TABLE IF EXISTS copied")
            self.maria(f"CREATE TABLE copied ({COLUMNS})")

        def check(name):
            rows = int(self.maria("SELECT count(*) FROM copied").strip())
            if rows != self.rows:
                raise SystemExit(f"{name}: {rows} rows")
        dmg = lambda verify: self.copied(["file:" + self.parquet], self.maria_side("copied"), verify, "--mode", "overwrite")
        load = " ".join(self.maria_command) + f" -e \"LOAD DATA LOCAL INFILE '{self.tabbed}' INTO TABLE copied\""
        self.pair("Parquet to MariaDB", prepare, check, {
            "LOAD DATA of the same rows as text": lambda: self.shell(load),
            "dmg copy --verify none": lambda: dmg("none"),
            "dmg copy": lambda: dmg("transferred"),
        }, [("--verify none against LOAD DATA", "dmg copy --verify none", "LOAD DATA of the same rows as text", 1.2)])
