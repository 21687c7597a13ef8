"""Targets that are tables, of four kinds of server and in every mode."""

import csv
import os
import sqlite3

import judge
import rows
import stores
from targets import Target

# How servers say that there is no such table.
MISSING = ("does not exist", "doesn't exist", "no such table", "Invalid object name")
FOREIGN = ("id", "batch", "name", "amount", "at")


class Table(Target):
    """A table; a kind of store says how its own SQL differs."""

    types = {}
    staging = ""

    def __init__(self, world, mode):
        self.name, self.table = f"{self.family}-{mode}", f"target_{mode}"
        if mode == "procedure":
            # Its rows are taken one by one.
            self.size = "_small"
        super().__init__(world, mode)

    def before(self):
        special = {"new": None, "upsert": rows.old_keyed(), "slice": rows.old_sliced()}
        return special.get(self.mode, rows.old())

    def names(self):
        return (*rows.COLUMNS, "slice") if self.mode == "slice" else rows.COLUMNS

    def columns(self, names):
        kinds = {"id": "int NOT NULL", "batch": "int NOT NULL", "label": "varchar(60)", "name": "varchar(60)"}
        kinds.update({"amount": "numeric(15,2)", "at": "timestamp", "slice": "varchar(64)", **self.types})
        key = {"upsert": ", PRIMARY KEY (batch, id)", "overwrite": ", PRIMARY KEY (id)"}.get(self.mode, "")
        return ", ".join(f"{name} {kinds[name]}" for name in names) + key + self.constraints

    def prepare(self):
        self.run(f"DROP TABLE IF EXISTS {self.table}", *self.forgotten())
        if self.before() is not None:
            self.make(self.names(), self.before())
        if self.mode == "procedure":
            self.run(*self.procedure())

    def make(self, names, those):
        self.run(f"CREATE TABLE {self.table} ({self.columns(names)}){self.after_columns}")
        self.load(names, those)

    after_columns = constraints = ""

    def forgotten(self):
        return ["DROP TABLE IF EXISTS __dmg_commit"]

    def run(self, *statements):
        getattr(self.world, self.family).run(*statements)

    def load(self, names, those):
        getattr(self.world, self.family).load(self.table, names, those)

    def rows(self, sql):
        return getattr(self.world, self.family).rows(sql)

    def options(self):
        if self.mode == "new":
            return {"mode": "append", "createTable": True}
        options = {"mode": self.mode}
        if self.mode == "upsert":
            options["keys"] = ["batch", "id"]
        if self.mode == "slice":
            options["slice"] = {"column": "slice", "value": rows.SLICE}
        if self.mode == "procedure":
            options["procedure"] = self.call()
        return options

    def call(self):
        return {"name": f"put_{self.table}"}

    def exists(self):
        return bool(self.rows(f"SELECT 1 FROM information_schema.tables WHERE table_name = '{self.table}'"))

    def content(self, names=None):
        if not self.exists():
            return judge.ABSENT
        content = judge.Content(self.rows(f"SELECT {', '.join(names or self.names())} FROM {self.table}"))
        return self.judged(content) if self.mode == "new" else content

    def foreign(self):
        """Somebody else makes the table, or one with other columns in its place."""
        theirs = rows.old()[:123]
        self.run(f"DROP TABLE IF EXISTS {self.table}")
        self.make(FOREIGN, theirs) if self.before() is not None else self.make(rows.COLUMNS, theirs)
        return judge.Content(theirs)

    def foreign_content(self):
        return self.content(FOREIGN if self.before() is not None else rows.COLUMNS)

    def glance(self):
        try:
            return str(self.rows(self.sum))
        except Exception as error:
            # The table may have come since.
            if self.before() is None and any(words in str(error) for words in MISSING):
                return judge.ABSENT
            raise

    keys = "SELECT count(*) FROM information_schema.table_constraints WHERE constraint_type = 'PRIMARY KEY' AND table_name = '{}'"

    def flaws(self):
        """A table that was replaced has its key as before."""
        has_key = self.mode in ("overwrite", "upsert")
        return "its primary key is gone" if has_key and self.rows(self.keys.format(self.table))[0][0] == 0 else ""

    def leftovers(self):
        count = len(self.rows(self.staging))
        return f"{count} staging tables" if count else ""


class PostgresTable(Table):
    family = server = "postgres"
    staging = "SELECT 1 FROM pg_tables WHERE tablename ~ '^_dmg_[0-9a-f]{12}_'"

    @property
    def sum(self):
        words = "concat(t.id, '|', t.batch, '|', t.label, '|', t.amount, '|', t.at)"
        return f"SELECT count(*), sum(hashtext({words})::bigint) FROM {self.table} t"

    def procedure(self):
        return [
            f"CREATE OR REPLACE PROCEDURE put_{self.table}(id int, batch int, label text, amount numeric, at timestamp) "
            f"LANGUAGE sql AS 'INSERT INTO {self.table} VALUES ($1, $2, $3, $4, $5)'"
        ]

    def endpoint(self, port=None):
        return stores.table(stores.postgres(self.world, port), self.table, "public")


class PostgresViewed(PostgresTable):
    """A view depends on the table, so that it cannot be swapped: its rows are deleted and inserted."""

    def __init__(self, world):
        super().__init__(world, "overwrite")
        self.name, self.table = "postgres-viewed", "target_viewed"

    def prepare(self):
        self.run("DROP VIEW IF EXISTS target_view")
        super().prepare()
        self.run(f"CREATE VIEW target_view AS SELECT id FROM {self.table}")

    def foreign(self):
        self.run("DROP VIEW IF EXISTS target_view")
        return super().foreign()


class LeavesOut:
    """Rows that do not fit are left out, counted and written beside. Goes before a kind of table."""

    ending = ""

    def __init__(self, world):
        self.folder = world.path(f"redirect-{self.family}-{self.ending}")
        os.makedirs(self.folder, exist_ok=True)
        super().__init__(world, "append")
        self.name, self.table = f"{self.family}-{self.ending}", f"target_{self.ending}"
        self.path = world.path(f"{self.name}.db")

    def fits(self, row):
        raise NotImplementedError

    def prepare(self):
        super().prepare()
        for name in os.listdir(self.folder):
            os.remove(f"{self.folder}/{name}")

    def wanted_rows(self, those):
        return self.before() + [row for row in those if self.fits(row)]

    def redirected(self):
        """Rows written beside, with their header left out."""
        count = 0
        for name in os.listdir(self.folder):
            if not name.startswith("."):
                with open(f"{self.folder}/{name}", encoding="utf-8", newline="") as file:
                    count += sum(1 for _ in csv.reader(file)) - 1
        return count

    def taken(self, source):
        those = self.world.sets[source + self.size]
        kept = sum(map(self.fits, those))
        return kept, len(those) - kept

    def options(self):
        redirect = {"store": stores.folder(self.folder)[0], "folder": ""}
        return {"mode": "append", "tolerance": {"rowsMax": 100_000, "redirect": redirect}}


class PostgresTolerant(LeavesOut, PostgresTable):
    """Rows without a label do not fit."""

    ending = "tolerant"
    types = {"label": "varchar(60) NOT NULL"}

    def fits(self, row):
        return row[2] is not None


class Screened(LeavesOut):
    """Rows do not fit that a check of the table refuses, and those whose key is there."""

    ending = "screened"
    constraints = ", PRIMARY KEY (id), CHECK (id < 20 OR id % 9 <> 0)"

    def before(self):
        return super().before() + [(number, 0, "in the way", None, None) for number in range(1, 20)]

    def fits(self, row):
        return row[0] >= 20 and row[0] % 9 != 0


class MariaTable(Table):
    family = server = "mariadb"
    types = {"at": "datetime(6)"}
    after_columns = " ENGINE=InnoDB CHARACTER SET utf8mb4"
    staging = "SHOW TABLES LIKE '\\_dmg\\_%'"

    @property
    def sum(self):
        words = "concat_ws('|', id, batch, label, amount, at)"
        return f"SELECT count(*), sum(crc32({words})) FROM {self.table}"

    def procedure(self):
        return [
            f"DROP PROCEDURE IF EXISTS put_{self.table}",
            f"CREATE PROCEDURE put_{self.table}(IN id int, IN batch int, IN label varchar(60), IN amount decimal(15,2), "
            f"IN at datetime(6)) INSERT INTO {self.table} VALUES (id, batch, label, amount, at)",
        ]

    def endpoint(self, port=None):
        return stores.table(stores.mariadb(self.world, port), self.table, self.world.mariadb.database)


class SqlServerTable(Table):
    family = "sqlserver"
    types = {"at": "datetime2(6)", "label": "nvarchar(60)", "name": "nvarchar(60)"}
    staging = "SELECT name FROM sys.tables WHERE name LIKE '[_]dmg[_]%'"
    keys = "SELECT count(*) FROM sys.indexes WHERE is_primary_key = 1 AND object_id = OBJECT_ID('{}')"

    @property
    def sum(self):
        return f"SELECT COUNT_BIG(*), SUM(CAST(id AS bigint) * LEN(label)), SUM(amount), MAX(at) FROM {self.table}"

    def procedure(self):
        return [
            f"IF OBJECT_ID('put_{self.table}') IS NOT NULL DROP PROCEDURE put_{self.table}",
            f"DROP TYPE IF EXISTS {self.table}_rows",
            f"CREATE TYPE {self.table}_rows AS TABLE ({self.columns(rows.COLUMNS)})",
            f"CREATE PROCEDURE put_{self.table} @rows {self.table}_rows READONLY AS INSERT INTO {self.table} SELECT * FROM @rows",
        ]

    def call(self):
        return {"name": f"dbo.put_{self.table}", "tableType": f"dbo.{self.table}_rows", "tableParameter": "rows"}

    def endpoint(self, port=None):
        return stores.table(stores.sqlserver(self.world, port), self.table, "dbo")


class SqliteTable(Table):
    family = "sqlite"
    types = {"label": "text", "name": "text", "amount": "text", "at": "text", "slice": "text"}

    typeless = True

    def __init__(self, world, mode):
        super().__init__(world, mode)
        self.path = world.path(f"{self.name}.db")

    def connect(self):
        return sqlite3.connect(self.path, timeout=30)

    def prepare(self):
        for suffix in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(self.path + suffix):
                os.remove(self.path + suffix)
        self.run("PRAGMA journal_mode = WAL")
        super().prepare()

    def run(self, *statements):
        connection = self.connect()
        for sql in statements:
            connection.execute(sql)
        connection.commit()
        connection.close()

    def load(self, names, those):
        from files import plain_row

        connection = self.connect()
        marks = ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO {self.table} ({', '.join(names)}) VALUES ({marks})", map(plain_row, those))
        connection.commit()
        connection.close()

    def rows(self, sql):
        connection = self.connect()
        try:
            return [tuple(row) for row in connection.execute(sql)]
        finally:
            connection.close()

    def exists(self):
        return bool(self.rows(f"SELECT 1 FROM sqlite_schema WHERE name = '{self.table}'"))

    def content(self, names=None):
        self.typeless = True
        return self.judged(super().content(names))

    staging = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name LIKE '\\_dmg\\_%' ESCAPE '\\'"

    keys = "SELECT count(*) FROM pragma_table_info('{}') WHERE pk > 0"

    @property
    def sum(self):
        return f"SELECT count(*), sum(id), sum(length(label) * id), sum(amount), max(at) FROM {self.table}"

    def endpoint(self, port=None):
        return stores.table(stores.sqlite(self.path), self.table)


class PostgresScreened(Screened, PostgresTable):
    pass


class MariaScreened(Screened, MariaTable):
    pass


class SqlServerScreened(Screened, SqlServerTable):
    pass


class SqliteScreened(Screened, SqliteTable):
    pass
