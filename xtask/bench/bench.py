"""Measures one copy against its peers in alternating rounds and writes docs/benchmarks.md.

    bench.py [--rounds N] [--only copy,pg_pg,maria_parquet,maria_pg,text_pg,parquet_pg,parquet_maria,blob,up,instructions]
             [--scale S] [--dmg PATH] [--print]

Needs the environment of `cargo xtask servers` with PostgreSQL settings as in xtask/src/bench.rs; `cargo xtask bench`
gives it. Sections of the page that were not measured this time stay as they are. Peers: raw binary COPY over two connections, which stores nothing, and DuckDB with its postgres extension.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from urllib.parse import urlparse

from instructions import Instructions
from measure import Measured, Rounds, pss_kib
from pairs import Pairs

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LINEITEM = """CREATE TABLE lineitem (l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL,
 l_linenumber integer NOT NULL, l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL,
 l_discount numeric(15,2) NOT NULL, l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL,
 l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
 l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL)"""


# --- the bench ---------------------------------------------------------------------------------------------------


class Bench(Pairs, Instructions):
    def __init__(self, given):
        self.given = given
        self.url = os.environ["DMG_TEST_POSTGRES"]
        self.password_file = os.environ["DMG_TEST_POSTGRES_PASSWORD_FILE"]
        place = urlparse(self.url)
        self.environment = dict(os.environ, PGPASSWORD=open(self.password_file).read().strip())
        self.connection = f"host={place.hostname} port={place.port} user={place.username} dbname={place.path[1:]}"
        self.folder = tempfile.mkdtemp(prefix="dmg-bench-")
        self.rounds = Rounds()
        self.sections = []

    def psql(self, sql, **options):
        command = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", self.connection, "-c", sql]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True, **options).stdout

    def load(self):
        print("generating and loading lineitem", flush=True)
        generator = os.path.join(os.path.dirname(sys.executable), "tpchgen-cli")
        subprocess.run([generator, "csv", "-s", str(self.given.scale), "--tables", "lineitem",
                        "--output-dir", self.folder], check=True, capture_output=True)
        path = os.path.join(self.folder, "lineitem.csv")
        self.psql(LINEITEM)
        with open(path, "rb") as file:
            subprocess.run(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", self.connection, "-c",
                            "COPY lineitem FROM STDIN (FORMAT csv, HEADER)"], env=self.environment, stdin=file, check=True)
        os.remove(path)
        self.psql("VACUUM (ANALYZE, FREEZE) lineitem")
        self.psql("CHECKPOINT")
        self.rows = int(self.psql("SELECT count(*) FROM lineitem"))
        self.blocks = int(self.psql("SELECT pg_relation_size('lineitem') / 8192"))

    def raw(self):
        half = self.blocks // 2
        copies = [
            f"COPY (SELECT * FROM lineitem WHERE ctid {condition}) TO STDOUT (FORMAT binary)"
            for condition in (f"< '({half},0)'", f">= '({half},0)'")
        ]
        commands = [(["psql", "-qAtX", self.connection, "-c", copy], subprocess.DEVNULL) for copy in copies]
        return Measured(*commands, environment=self.environment)

    def duckdb(self, target):
        script = (
            "import sys, time, duckdb\n"
            "from duckdb_extensions import import_extension\n"
            "import_extension('postgres_scanner')\n"
            "c = duckdb.connect()\n"
            "c.execute('LOAD postgres_scanner'); c.execute('SET enable_progress_bar = false')\n"
            "start = time.monotonic()\n"
            "c.execute(f\"ATTACH '{sys.argv[1]}' AS pg (TYPE postgres, READ_ONLY)\")\n"
            "c.execute(f\"COPY pg.lineitem TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION snappy)\")\n"
            "print(time.monotonic() - start)\n"
        )
        return Measured([sys.executable, "-c", script, self.connection, target], environment=self.environment)

    def dmg(self, target, verify, *more):
        source = [self.url, "--secret-file", self.password_file, "--table", "lineitem"]
        return self.dmg_pair(source, [target, *more], verify, "--mode", "overwrite")

    def dmg_pair(self, source, sink, verify, *more):
        receipt = os.path.join(self.folder, "receipt.json")
        command = [self.given.dmg, "copy", "--from", *source, "--to", *sink, *more, "--verify", verify,
                   "--receipt", receipt, "--output", "json"]
        measured = Measured(command)
        with open(receipt) as file:
            document = json.load(file)
        receipt = json.loads(document["payload"]) if "payload" in document else document
        if receipt["read"]["rows"] != self.rows:
            raise SystemExit(f"{receipt['read']['rows']} rows were copied instead of {self.rows}")
        return measured, receipt

    def copy(self):
        paths = {name: os.path.join(self.folder, f"{name}.parquet") for name in ("dmg", "none", "duckdb")}
        names = ["raw binary COPY, 2 connections, discarded", "DuckDB", "dmg copy", "dmg copy --verify none"]
        for number in range(self.given.rounds + 1):
            print("warm-up" if number == 0 else f"round {number}", flush=True)
            rounds = Rounds() if number == 0 else self.rounds
            rounds.add(names[0], self.raw())
            duckdb = self.duckdb(paths["duckdb"])
            rounds.add(names[1], duckdb, float(duckdb.output))
            rounds.add(names[2], *self.dmg("file:" + paths["dmg"], "transferred"))
            rounds.add(names[3], *self.dmg("file:" + paths["none"], "none"))
        receipts = self.rounds.notes["dmg copy"]
        wall = {name: self.rounds.median(name) for name in names}
        statement = statistics.median(self.rounds.notes["DuckDB"])
        shares = [receipt["bottleneck"]["parallelShare"] for receipt in receipts]
        import pyarrow.parquet
        rows = {name: pyarrow.parquet.ParquetFile(path).metadata.num_rows for name, path in paths.items()}
        if set(rows.values()) != {self.rows}:
            raise SystemExit(f"rows differ: {rows}")
        sizes = {name: os.path.getsize(path) / 1e6 for name, path in paths.items()}
        peak = max(run.pss_mib for name in names[2:] for run in self.rounds.runs[name])
        stages = {s["stage"]: s["seconds"] for s in receipts[-1]["stages"]}
        self.sections.append(f"""## PostgreSQL to one local Parquet file

TPC-H lineitem, {self.rows:,} rows, 16 columns, snappy; every command as a process of its own, in alternating rounds.

{self.rounds.table(names)}

| figure | measured | wanted |
| --- | --- | --- |
| dmg copy, verify on, against DuckDB | {wall['dmg copy'] / wall['DuckDB']:.2f} | ≤ 1.10 |
| dmg copy --verify none against DuckDB | {wall['dmg copy --verify none'] / wall['DuckDB']:.2f} | ≤ 0.90 |
| the same two against DuckDB's statement alone ({statement:.2f} s, without start-up) | {wall['dmg copy'] / statement:.2f}, {wall['dmg copy --verify none'] / statement:.2f} | |
| share of the move with two source connections active (least of all runs, from the receipts) | {min(shares):.2f} | ≥ 0.50 |
| peak PSS | {peak:.0f} MiB | ≤ 256 MiB |

File sizes: dmg {sizes['dmg']:.0f} MB, DuckDB {sizes['duckdb']:.0f} MB. Stages of the last verified run: \
{', '.join(f'{name} {seconds:.2f} s' for name, seconds in stages.items())}.
""")
        self.local = paths["dmg"]

    def blob(self):
        from azure.storage.blob import BlobServiceClient

        endpoint = os.environ["DMG_TEST_AZURITE"] + "/devstoreaccount1"
        key_file = os.environ["DMG_TEST_AZURITE_KEY_FILE"]
        client = BlobServiceClient(endpoint, credential=open(key_file).read().strip(), max_block_size=8 << 20, api_version="2025-11-05")
        client.create_container("bench")
        upload = (
            "import sys\nfrom azure.storage.blob import BlobClient\n"
            "blob = BlobClient(sys.argv[1], 'bench', 'raw.parquet', credential=open(sys.argv[2]).read().strip(),"
            " max_block_size=8 << 20, max_single_put_size=8 << 20, api_version='2025-11-05')\n"
            "with open(sys.argv[3], 'rb') as file:\n    blob.upload_blob(file, overwrite=True, max_concurrency=4)\n"
        )
        rounds = Rounds()
        names = ["dmg copy to a local file", "upload of that file by azure-storage-blob, 4 at once", "dmg copy to the blob"]
        for number in range(self.given.rounds):
            print(f"blob round {number + 1}", flush=True)
            local = os.path.join(self.folder, "dmg.parquet")
            rounds.add(names[0], *self.dmg("file:" + local, "transferred"))
            rounds.add(names[1], Measured([sys.executable, "-c", upload, endpoint, key_file, local]))
            rounds.add(names[2], *self.dmg("azblob://devstoreaccount1/bench/x.parquet", "transferred", "--endpoint", endpoint,
                                           "--sink-secret-file", key_file))
        apart = rounds.median(names[0]) + rounds.median(names[1])
        self.sections.append(f"""## The same to a blob in Azurite

{rounds.table(names)}

| figure | measured | wanted |
| --- | --- | --- |
| copy to the blob against copy to a local file plus upload | {rounds.median(names[2]) / apart:.2f} | ≤ 1.25 |
""")

    def up(self):
        times, memory = [], []
        for number in range(6):
            folder = os.path.join(self.folder, f"up-{number}")
            started = time.monotonic()
            child = subprocess.Popen([self.given.dmg, "up", "--data", folder, "--listen", "127.0.0.1:0"],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            text = ""
            for line in child.stdout:
                text += line
                if re.search(r"https://\S+", line):
                    break
            seconds = time.monotonic() - started
            if not re.search(r"https://\S+", text):
                raise SystemExit(f"dmg up printed no URL: {text}")
            drain = threading.Thread(target=child.stdout.read, daemon=True)
            drain.start()
            time.sleep(5)
            idle = pss_kib(child.pid) / 1024
            child.send_signal(signal.SIGINT)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if number > 0:
                times.append(seconds)
                memory.append(idle)
            print(f"  dmg up: {seconds:.2f} s, idle {idle:.0f} MiB", flush=True)
        self.sections.append(f"""## dmg up

| figure | measured | wanted |
| --- | --- | --- |
| from start to the printed URL, sample copied and verified (median of 5, warm) | {statistics.median(times):.2f} s | < 5 s |
| PSS of all its processes, idle for 5 s | {max(memory):.0f} MiB | < 80 MiB |
""")

    def write(self):
        import duckdb
        commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        server = self.psql("SHOW server_version").split()[0]
        versions = f"PostgreSQL {server}, DuckDB {duckdb.__version__}"

        def measured(section):
            scale = "" if section.startswith("## Instructions") else f"scale {self.given.scale}; "
            return f"Measured at {self.given.commit or commit} ({scale}{versions})."
        fresh = [f"{section.rstrip()}\n\n{measured(section)}\n" for section in self.sections]
        if self.given.print:
            print("\n".join(fresh))
            return
        memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal")) / 2**20
        head = f"""# Benchmarks

Written by `cargo xtask bench`, section by section; each says what it was measured at. Servers and clients share one machine of
{os.cpu_count()} cores and {memory:.0f} GiB, so seconds hold for it alone; ratios come from alternating rounds on the same data. Release build; PostgreSQL
with 2 GB of shared buffers and fsync on, MariaDB with a buffer pool of 3 GB; peers and their versions are in
`xtask/bench/requirements.txt` and `tests/servers/requirements.txt`. Unlike its peers, `dmg copy` proves by digest that what it
stored is what it read, unless told `--verify none`. Memory is proportional (PSS), sampled every 0.1 s. CPU seconds of servers are
read from /proc.

"""
        path = os.path.join(ROOT, "docs/benchmarks.md")
        merged = merge(open(path).read() if os.path.exists(path) else "", fresh)
        with open(path, "w") as file:
            file.write(head + "\n".join(merged))

    def run(self):
        wanted = self.given.only.split(",")
        try:
            if set(wanted) - {"up", "instructions"}:
                self.load()
            for name in wanted:
                print(f"== {name}", flush=True)
                getattr(self, name)()
            self.write()
        finally:
            if set(wanted) - {"up", "instructions"}:
                self.psql("DROP TABLE IF EXISTS lineitem")
            shutil.rmtree(self.folder, ignore_errors=True)


def merge(page, fresh):
    """The page's sections with the fresh ones in place of those of the same title; new ones come last."""
    title = lambda section: section.split("\n", 1)[0]
    old = ["## " + text.rstrip() + "\n" for text in re.split(r"^## ", page, flags=re.M)[1:]]
    by_title = {title(section): section for section in fresh}
    merged = [by_title.pop(title(section), section) for section in old]
    return merged + list(by_title.values())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="copy,pg_pg,maria_parquet,maria_pg,text_pg,parquet_pg,parquet_maria,blob,up,instructions")
    parser.add_argument("--scale", default="1")
    parser.add_argument("--dmg", default=os.path.join(ROOT, "target/release/dmg"))
    parser.add_argument("--commit", help="what the executable was built from, where it is not HEAD")
    parser.add_argument("--counted", help="the counted programme, built already")
    parser.add_argument("--fixture", help="the TDS fixture, built already")
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
