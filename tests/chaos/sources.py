"""What trials copy from: the same two sets of rows, `a` and `b`, in every store; a source that changes between two
attempts is one that is named anew. `a_small` and `b_small` are for targets that take rows one by one."""

import os
import sqlite3

import files
import rows
import stores

COLUMNS_SQL = "id int NOT NULL, batch int NOT NULL, label varchar(60), amount numeric(15,2), at timestamp"


class Source:
    """One store that holds the sets of rows."""

    family = ""

    def __init__(self, world, sets):
        self.world = world
        for name, those in sets.items():
            self.make(name, those)


class FromPostgres(Source):
    """Partitioned, so that there are several parts however few rows there are."""

    family = "postgres"

    def make(self, name, those):
        server, table = self.world.postgres, f"src_{name}"
        server.run(f"CREATE TABLE {table} ({COLUMNS_SQL}) PARTITION BY RANGE (id)")
        for number, part in enumerate(rows.parts(those)):
            first, last = (part[0][0], part[-1][0]) if part else (1_000_000, 2_000_000)
            server.run(f"CREATE TABLE {table}_{number} PARTITION OF {table} FOR VALUES FROM ({first}) TO ({last + 1})")
        server.load(table, rows.COLUMNS, those)
        server.run(f"ANALYZE {table}")

    def endpoint(self, name, port=None, ssl="disable"):
        return stores.table(stores.postgres(self.world, port, ssl), f"src_{name}", "public")


class FromMariaDb(Source):
    family = "mariadb"

    def make(self, name, those):
        server, table = self.world.mariadb, f"src_{name}"
        columns = COLUMNS_SQL.replace("timestamp", "datetime(6)")
        server.run(f"CREATE TABLE {table} ({columns}, PRIMARY KEY (id)) ENGINE=InnoDB CHARACTER SET utf8mb4")
        server.load(table, rows.COLUMNS, those)

    def endpoint(self, name, port=None):
        return stores.table(stores.mariadb(self.world, port), f"src_{name}", self.world.mariadb.database)


class FromSqlServer(Source):
    family = "sqlserver"

    def make(self, name, those):
        server, table = self.world.sqlserver, f"src_{name}"
        columns = COLUMNS_SQL.replace("timestamp", "datetime2(6)").replace("varchar", "nvarchar")
        server.run(f"CREATE TABLE {table} ({columns}, PRIMARY KEY (id))")
        server.load(table, rows.COLUMNS, those)

    def endpoint(self, name, port=None):
        return stores.table(stores.sqlserver(self.world, port), f"src_{name}", "dbo")


class FromSqlite(Source):
    family = "sqlite"

    def make(self, name, those):
        connection = sqlite3.connect(self.path())
        connection.execute(f"CREATE TABLE src_{name} (id int NOT NULL, batch int NOT NULL, label text, amount decimal(15,2), at datetime)")
        connection.executemany(f"INSERT INTO src_{name} VALUES (?, ?, ?, ?, ?)", map(files.plain_row, those))
        connection.commit()
        connection.close()

    def path(self):
        return self.world.path("source.db")

    def endpoint(self, name, port=None):
        return stores.table(stores.sqlite(self.path()), f"src_{name}")


class FromFiles(Source):
    """A folder of Parquet files; each is a part."""

    family = "file"

    def make(self, name, those):
        import pyarrow.parquet

        os.makedirs(self.world.path(f"source/{name}"))
        for number, part in enumerate(rows.parts(those)):
            pyarrow.parquet.write_table(files.arrow(part), self.world.path(f"source/{name}/{number}.parquet"))

    def endpoint(self, name, port=None):
        return stores.files(stores.folder(self.world.path("source")), name)


class FromBlobs(Source):
    family = "blob"

    def make(self, name, those):
        files.container(self.world)
        for number, part in enumerate(rows.parts(those)):
            files.upload(self.world, f"{name}/{number}.parquet", files.arrow(part))

    def endpoint(self, name, port=None):
        return stores.files(stores.blob(self.world, port), f"chaos/{name}")


def make(world, names, count):
    """The sources that these servers can have, by family; the first is the one for what needs no other."""
    every = {"postgres": (FromPostgres, world.postgres), "file": (FromFiles, True), "mariadb": (FromMariaDb, world.mariadb)}
    every.update(sqlite=(FromSqlite, True), sqlserver=(FromSqlServer, world.sqlserver), blob=(FromBlobs, world.azurite))
    small = max(count // 16, 100)
    sets = {"a": rows.source(count, 1), "b": rows.source(count, 2)}
    sets.update(a_small=rows.source(small, 1), b_small=rows.source(small, 2))
    chosen = {name: kind for name, (kind, there) in every.items() if there and (not names or name in names)}
    return {name: kind(world, sets) for name, kind in chosen.items()}, sets
