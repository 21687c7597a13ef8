"""What a trial copies from and into. A target can be put back to its old content, says what job writes it, and is read
by the judge. Old and new content are computed from the source by the judge too, never by the product."""

import datetime
import decimal
import glob
import os
import sqlite3

import judge

OLD_ROWS = 500
START = datetime.datetime(2024, 1, 1)
COLUMNS_SQL = "id int NOT NULL, batch int, label varchar(60), amount numeric(15,2), at timestamp"


def old_rows():
    return [
        (-index, 0, f"old {index}", decimal.Decimal(index) / 4, START + datetime.timedelta(seconds=index))
        for index in range(1, OLD_ROWS + 1)
    ]


def old_table():
    import pyarrow

    rows = list(zip(*old_rows()))
    types = [pyarrow.int32(), pyarrow.int32(), pyarrow.string(), pyarrow.decimal128(15, 2), pyarrow.timestamp("us")]
    rows[3] = [value.quantize(decimal.Decimal("0.01")) for value in rows[3]]
    return pyarrow.table({name: pyarrow.array(v, t) for name, v, t in zip(judge.COLUMNS, rows, types)})


def old_content():
    return judge.Content(judge.parquet_rows(old_table()))


def postgres_store(world, port=None, ssl="disable"):
    store = {
        "store": "postgres",
        "settings": {
            "host": "127.0.0.1",
            "port": port or world.postgres.port,
            "database": "dmg",
            "user": "dmg",
            "sslMode": ssl,
        },
    }
    return store, {"password": world.postgres.password}


def mariadb_store(world, port=None):
    server = world.mariadb
    settings = {"host": "127.0.0.1", "port": port or server.port, "database": server.database, "user": server.user}
    return {"store": "mysql", "settings": {**settings, "sslMode": "disable"}}, {"password": server.password}


def blob_store(world, port=None):
    endpoint = f"http://127.0.0.1:{port or world.azurite.port}/devstoreaccount1"
    settings = {"account": "devstoreaccount1", "endpoint": endpoint}
    return {"store": "azblob", "settings": settings}, {"accountKey": world.azurite.key}


def job(source, sink, options):
    parties = {name: "chaos" for name in ("factory", "gateway", "node", "pipeline", "activity", "pipelineRun")}
    shared = {"verify": "transferred", "parallel": 2, "memoryMib": 64, "allowLossy": [], "createTable": False}
    shared.update({"preCopyScript": None, **options})
    return {"type": "copy", "parties": parties, "source": source, "sink": sink, "options": shared}


class Source:
    """Two tables of the same shape and other values: a source that changes between two attempts."""

    store = "postgres"

    def __init__(self, world, rows):
        self.world, self.rows, self.contents = world, rows, {}
        with world.postgres.connect() as connection:
            for batch, name in ((1, "a"), (2, "b")):
                for size, count in (("", rows), ("_small", max(rows // 8, 200))):
                    connection.execute(
                        f"CREATE TABLE src_{name}{size} AS SELECT i AS id, {batch} + i % 7 AS batch, "
                        f"'label ' || md5((i * {batch})::text) AS label, (i * 7.25 + {batch})::numeric(15,2) AS amount, "
                        "timestamp '2024-01-01' + i * interval '1.000001 s' AS at "
                        f"FROM generate_series(1, {count}) i"
                    )
                    connection.execute(f"ANALYZE src_{name}{size}")

    def endpoint(self, name, port=None, ssl="disable"):
        store, secrets = postgres_store(self.world, port, ssl)
        return {"store": store, "object": {"kind": "table", "schema": "public", "table": f"src_{name}"}}, secrets

    def content(self, name):
        if name not in self.contents:
            self.contents[name] = judge.postgres(self.world.postgres.connect, f"src_{name}")
        return self.contents[name]


class Target:
    """`name`, `mode` and what the new content is made of: the source alone, or the old rows and the source."""

    name, mode, adds, server = "", "overwrite", False, None
    atomic = True
    polls = True

    def __init__(self, world):
        self.world = world
        self.old = self.wanted_old()

    def wanted_old(self):
        return old_content()

    def wanted(self, source):
        return self.old + source if self.adds else source

    def options(self):
        return {"mode": self.mode}

    def leftovers(self):
        """What an ended copy left behind, in words; empty if nothing."""
        return ""


class PostgresTable(Target):
    server = "postgres"

    def __init__(self, world, mode):
        self.mode, self.name = mode, f"postgres-{mode}"
        self.adds = mode in ("append", "upsert", "slice")
        self.table = f"target_{mode}"
        super().__init__(world)

    def prepare(self):
        key = ", PRIMARY KEY (id)" if self.mode == "upsert" else ", slice text" if self.mode == "slice" else ""
        with self.world.postgres.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {self.table}")
            cursor.execute(f"CREATE TABLE {self.table} ({COLUMNS_SQL}{key})")
            with cursor.copy(f"COPY {self.table} ({', '.join(judge.COLUMNS)}) FROM STDIN") as copy:
                for row in old_rows():
                    copy.write_row(row)
        self.world.forget_marks()

    def options(self):
        options = {"mode": self.mode}
        if self.mode == "upsert":
            options["keys"] = ["id"]
        if self.mode == "slice":
            options["slice"] = {"column": "slice", "value": "ab" * 32}
        return options

    def endpoint(self, port=None):
        store, secrets = postgres_store(self.world, port)
        return {"store": store, "object": {"kind": "table", "schema": "public", "table": self.table}}, secrets

    def content(self):
        return judge.postgres(self.world.postgres.connect, self.table)

    def glance(self):
        with self.world.postgres.connect() as connection:
            query = f"SELECT count(*), sum(hashtext(t.id || '|' || t.batch || t.label)::bigint) FROM {self.table} t"
            return str(connection.execute(query).fetchone())

    def leftovers(self):
        with self.world.postgres.connect() as connection:
            query = "SELECT count(*) FROM pg_tables WHERE tablename ~ '^_dmg_[0-9a-f]{12}_'"
            count = connection.execute(query).fetchone()[0]
        return f"{count} staging tables" if count else ""


class PostgresViewed(PostgresTable):
    """A view depends on the table, so that it cannot be swapped: its rows are deleted and inserted."""

    def __init__(self, world):
        super().__init__(world, "overwrite")
        self.name, self.table = "postgres-viewed", "target_viewed"

    def prepare(self):
        with self.world.postgres.connect() as connection:
            connection.execute("DROP VIEW IF EXISTS target_view")
        super().prepare()
        with self.world.postgres.connect() as connection:
            connection.execute(f"CREATE VIEW target_view AS SELECT id FROM {self.table}")


class PostgresNew(PostgresTable):
    """The table does not exist; the commit makes it."""

    def __init__(self, world):
        super().__init__(world, "append")
        self.name, self.table, self.adds, self.polls = "postgres-new", "target_new", False, False

    def wanted_old(self):
        return judge.ABSENT

    def prepare(self):
        with self.world.postgres.connect() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {self.table}")
        self.old = judge.ABSENT
        self.world.forget_marks()

    def options(self):
        return {"mode": "append", "createTable": True}


class LocalFile(Target):
    def __init__(self, world, exists):
        self.exists = exists
        self.name = "file-replace" if exists else "file-new"
        self.mode = "overwrite" if exists else "append"
        self.folder = world.path(self.name)
        os.makedirs(self.folder, exist_ok=True)
        self.path = f"{self.folder}/target.parquet"
        super().__init__(world)

    def wanted_old(self):
        return old_content() if self.exists else judge.ABSENT

    def prepare(self):
        import pyarrow.parquet as parquet

        for path in glob.glob(f"{self.folder}/*") + glob.glob(f"{self.folder}/.*"):
            os.remove(path)
        if self.exists:
            parquet.write_table(old_table(), self.path)

    def endpoint(self, port=None):
        return {
            "store": {"store": "file", "settings": {"root": self.folder}},
            "object": {"kind": "files", "folder": "", "file": "target.parquet", "recursive": False},
            "format": {"format": "parquet"},
        }, {}

    def content(self):
        return judge.parquet_file(self.path)

    def glance(self):
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return judge.ABSENT
        content = judge.parquet_bytes(data)
        return f"{content.rows} {content.sums}"

    def write_foreign(self):
        import pyarrow.parquet as parquet

        interim = f"{self.folder}/foreign"
        table = old_table().slice(0, 123)
        parquet.write_table(table, interim)
        os.rename(interim, self.path)
        return judge.Content(judge.parquet_rows(table))

    def leftovers(self):
        found = [name for name in os.listdir(self.folder) if name.endswith(".part")]
        return f"{len(found)} hidden files" if found else ""


class Blob(Target):
    def __init__(self, world, exists):
        self.exists = exists
        self.name = "blob-replace" if exists else "blob-new"
        self.mode = "overwrite" if exists else "append"
        self.blob = f"{self.name}.parquet"
        try:
            world.azurite.client().create_container("chaos")
        except Exception as error:  # noqa: BLE001 - the other target may have made it
            if "ContainerAlreadyExists" not in str(error):
                raise
        super().__init__(world)

    def wanted_old(self):
        return old_content() if self.exists else judge.ABSENT

    def client(self):
        return self.world.azurite.client().get_blob_client("chaos", self.blob)

    def upload(self, table):
        import io

        import pyarrow.parquet as parquet

        data = io.BytesIO()
        parquet.write_table(table, data)
        self.client().upload_blob(data.getvalue(), overwrite=True)

    def prepare(self):
        from azure.core.exceptions import ResourceNotFoundError

        if self.exists:
            self.upload(old_table())
            return
        try:
            self.client().delete_blob()
        except ResourceNotFoundError:
            pass

    def endpoint(self, port=None):
        store, secrets = blob_store(self.world, port)
        what = {"kind": "files", "folder": "chaos", "file": self.blob, "recursive": False}
        return {"store": store, "object": what, "format": {"format": "parquet"}}, secrets

    def content(self):
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return judge.parquet_bytes(self.client().download_blob().readall())
        except ResourceNotFoundError:
            return judge.ABSENT

    def glance(self):
        content = self.content()
        return content if content == judge.ABSENT else f"{content.rows} {content.sums}"

    def write_foreign(self):
        table = old_table().slice(0, 123)
        self.upload(table)
        return judge.Content(judge.parquet_rows(table))


class MariaTable(Target):
    server = "mariadb"

    def __init__(self, world, mode):
        self.mode, self.name = mode, f"mariadb-{mode}"
        self.adds = mode in ("append", "upsert", "slice")
        self.table = f"target_{mode}"
        super().__init__(world)

    def prepare(self):
        key = ", PRIMARY KEY (id)" if self.mode == "upsert" else ", slice varchar(64)" if self.mode == "slice" else ""
        connection = self.world.mariadb.connect()
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {self.table}")
            columns = COLUMNS_SQL.replace("timestamp", "datetime(6)")
            cursor.execute(f"CREATE TABLE {self.table} ({columns}{key}) ENGINE=InnoDB CHARACTER SET utf8mb4")
            names = ", ".join(f"`{name}`" for name in judge.COLUMNS)
            cursor.executemany(f"INSERT INTO {self.table} ({names}) VALUES (%s, %s, %s, %s, %s)", old_rows())
            cursor.execute("DROP TABLE IF EXISTS __dmg_commit")
        connection.close()

    options = PostgresTable.options

    def endpoint(self, port=None):
        store, secrets = mariadb_store(self.world, port)
        schema = self.world.mariadb.database
        return {"store": store, "object": {"kind": "table", "schema": schema, "table": self.table}}, secrets

    def content(self):
        return judge.mariadb(self.world.mariadb.connect, self.table)

    def glance(self):
        connection = self.world.mariadb.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT count(*), sum(crc32(concat(id, '|', batch, label))) FROM {self.table}")
                return str(cursor.fetchone())
        finally:
            connection.close()

    def leftovers(self):
        connection = self.world.mariadb.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SHOW TABLES LIKE '\\_dmg\\_%'")
                count = len(cursor.fetchall())
        finally:
            connection.close()
        return f"{count} staging tables" if count else ""


class SqliteTable(Target):
    def __init__(self, world, mode):
        self.mode, self.name = mode, f"sqlite-{mode}"
        self.adds = mode in ("append", "upsert")
        self.path = world.path(f"{self.name}.db")
        super().__init__(world)

    def prepare(self):
        for suffix in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(self.path + suffix):
                os.remove(self.path + suffix)
        key = ", PRIMARY KEY (id)" if self.mode == "upsert" else ""
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"CREATE TABLE target (id integer NOT NULL, batch integer, label text, amount text, at text{key})")
        rows = ((i, b, t, f"{a:.2f}", at.isoformat(sep=" ", timespec="microseconds")) for i, b, t, a, at in old_rows())
        connection.executemany("INSERT INTO target VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
        connection.close()

    options = PostgresTable.options

    def endpoint(self, port=None):
        store = {"store": "sqlite", "settings": {"path": self.path}}
        return {"store": store, "object": {"kind": "table", "table": "target"}}, {}

    def content(self):
        return judge.sqlite(self.path, "target")

    def glance(self):
        content = self.content()
        return f"{content.rows} {content.sums}"


def make(world, names):
    """The targets of those names; all that this program and these servers can have if none is named."""
    every = {
        "postgres-append": lambda: PostgresTable(world, "append"),
        "postgres-overwrite": lambda: PostgresTable(world, "overwrite"),
        "postgres-viewed": lambda: PostgresViewed(world),
        "postgres-new": lambda: PostgresNew(world),
        "file-replace": lambda: LocalFile(world, True),
        "file-new": lambda: LocalFile(world, False),
        "blob-replace": lambda: Blob(world, True),
        "blob-new": lambda: Blob(world, False),
        "postgres-upsert": lambda: PostgresTable(world, "upsert"),
        "postgres-slice": lambda: PostgresTable(world, "slice"),
        "mariadb-append": lambda: MariaTable(world, "append"),
        "mariadb-overwrite": lambda: MariaTable(world, "overwrite"),
        "mariadb-upsert": lambda: MariaTable(world, "upsert"),
        "mariadb-slice": lambda: MariaTable(world, "slice"),
        "sqlite-append": lambda: SqliteTable(world, "append"),
        "sqlite-overwrite": lambda: SqliteTable(world, "overwrite"),
        "sqlite-upsert": lambda: SqliteTable(world, "upsert"),
    }
    chosen = [name for name in every if not names or name in names]
    chosen = [name for name in chosen if world.azurite or not name.startswith("blob")]
    chosen = [name for name in chosen if world.mariadb or not name.startswith("mariadb")]
    return [every[name]() for name in chosen]
