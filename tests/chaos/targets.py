"""What a trial copies into. A target can be put back to its old content, says what job writes it, and is read by the
judge. Old and new content follow from `rows.py`, never from the product."""

import judge
import rows


class Target:
    """A target and the mode it is written in. `size` is the ending of the names of its sources."""

    name = family = ""
    size = ""
    # The server that may be killed under it, and whether readers may look while it is written.
    server, polls = None, True
    # Whether decimals and timestamps are texts in what this copy makes.
    typeless = False

    def __init__(self, world, mode):
        self.world, self.mode = world, mode
        self.old = judge.ABSENT if self.before() is None else judge.Content(self.before())
        self.news = {}

    def before(self):
        """The rows of the old content; None where there is no target yet."""
        return rows.old()

    def wanted_rows(self, those):
        return rows.wanted(self.mode, those, self.before())

    def wanted(self, source):
        if source not in self.news:
            self.news[source] = judge.Content(self.wanted_rows(self.world.sets[source + self.size]))
        return self.news[source]

    def judged(self, content):
        """Content that the copy gave its types."""
        typeless = self.typeless and content != judge.ABSENT
        return judge.Content(map(judge.typed, content.rows.elements())) if typeless else content

    def taken(self, source):
        """Rows that a copy of that source writes, and those it leaves out."""
        return len(self.world.sets[source + self.size]), 0

    def options(self):
        return {"mode": self.mode}

    def flaws(self):
        """What of the target besides its rows is not as it must be, in words."""
        return ""

    def leftovers(self):
        """What an ended copy left behind, in words; empty if nothing."""
        return ""


def make(world, names):
    """The targets of those names; all that this program and these servers can have if none is named."""
    import files
    import tables

    every = {}
    if world.postgres:
        every.update({f"postgres-{mode}": (tables.PostgresTable, mode) for mode in ("append", "overwrite")})
        every.update({"postgres-viewed": (tables.PostgresViewed,), "postgres-new": (tables.PostgresTable, "new")})
        every.update({f"postgres-{mode}": (tables.PostgresTable, mode) for mode in ("upsert", "slice", "procedure")})
        every.update({"postgres-tolerant": (tables.PostgresTolerant,), "postgres-screened": (tables.PostgresScreened,)})
    every.update({"file-replace": (files.LocalFile, True), "file-new": (files.LocalFile, False)})
    if world.azurite:
        every.update({"blob-replace": (files.Blob, True), "blob-new": (files.Blob, False)})
    modes = ("append", "overwrite", "new", "upsert", "slice")
    if world.mariadb:
        every.update({f"mariadb-{mode}": (tables.MariaTable, mode) for mode in (*modes, "procedure")})
        every["mariadb-screened"] = (tables.MariaScreened,)
    every.update({f"sqlite-{mode}": (tables.SqliteTable, mode) for mode in modes})
    every["sqlite-screened"] = (tables.SqliteScreened,)
    if world.sqlserver:
        every.update({f"sqlserver-{mode}": (tables.SqlServerTable, mode) for mode in (*modes, "procedure")})
        every["sqlserver-screened"] = (tables.SqlServerScreened,)
    chosen = {name: how for name, how in every.items() if not names or name in names or name.split("-")[0] in names}
    return [kind(world, *how) for kind, *how in chosen.values()]
