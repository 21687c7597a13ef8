"""Targets that are files: a Parquet file on this machine, a Parquet blob. And what else has to do with files."""

import glob
import io
import os

import judge
import rows
import stores
from targets import Target

CONTAINER = "chaos"


def arrow(those):
    import pyarrow

    types = [pyarrow.int32(), pyarrow.int32(), pyarrow.string(), pyarrow.decimal128(15, 2), pyarrow.timestamp("us")]
    values = list(zip(*those)) or [()] * len(types)
    return pyarrow.table({name: pyarrow.array(v, t) for name, v, t in zip(rows.COLUMNS, values, types)})


def plain_row(row):
    """A row as a store without decimals and timestamps holds it."""
    amount, at = row[3:5]
    at = at and at.isoformat(sep=" ", timespec="microseconds")
    return (*row[:3], None if amount is None else f"{amount:.2f}", at, *row[5:])


def container(world):
    try:
        world.azurite.client().create_container(CONTAINER)
    except Exception as error:  # noqa: BLE001 - others may have made it
        if "ContainerAlreadyExists" not in str(error):
            raise


def upload(world, name, table):
    import pyarrow.parquet

    data = io.BytesIO()
    pyarrow.parquet.write_table(table, data)
    world.azurite.client().get_blob_client(CONTAINER, name).upload_blob(data.getvalue(), overwrite=True)


class FileTarget(Target):
    """One Parquet file, that replaces another or must not exist yet."""

    def __init__(self, world, exists):
        self.exists = exists
        self.name = f"{self.family}-{'replace' if exists else 'new'}"
        super().__init__(world, "overwrite" if exists else "append")

    def before(self):
        return rows.old() if self.exists else None

    def wanted_rows(self, those):
        return those

    def foreign(self):
        """Somebody else's content takes the target's place."""
        theirs = rows.old()[:123]
        self.put(arrow(theirs))
        return judge.Content(theirs)

    def foreign_content(self):
        return self.content()

    def glance(self):
        content = self.content()
        return content if content == judge.ABSENT else hash(frozenset(content.rows.items()))


class LocalFile(FileTarget):
    family = "file"

    def __init__(self, world, exists):
        super().__init__(world, exists)
        self.folder = world.path(self.name)
        os.makedirs(self.folder, exist_ok=True)
        self.path = f"{self.folder}/target.parquet"

    def prepare(self):
        for path in glob.glob(f"{self.folder}/*") + glob.glob(f"{self.folder}/.*"):
            os.remove(path)
        if self.exists:
            self.put(arrow(rows.old()))

    def put(self, table):
        import pyarrow.parquet

        interim = f"{self.folder}/foreign"
        pyarrow.parquet.write_table(table, interim)
        os.rename(interim, self.path)

    def endpoint(self, port=None):
        return stores.files(stores.folder(self.folder), "", "target.parquet")

    def content(self):
        try:
            with open(self.path, "rb") as file:
                return self.judged(judge.parquet(file.read()))
        except FileNotFoundError:
            return judge.ABSENT

    def leftovers(self):
        found = [name for name in os.listdir(self.folder) if name.endswith(".part")]
        return f"{len(found)} hidden files" if found else ""


class Blob(FileTarget):
    family = "blob"

    def __init__(self, world, exists):
        super().__init__(world, exists)
        self.blob = f"{self.name}.parquet"
        container(world)

    def client(self):
        return self.world.azurite.client().get_blob_client(CONTAINER, self.blob)

    def put(self, table):
        upload(self.world, self.blob, table)

    def prepare(self):
        from azure.core.exceptions import ResourceNotFoundError

        if self.exists:
            self.put(arrow(rows.old()))
            return
        try:
            self.client().delete_blob()
        except ResourceNotFoundError:
            pass

    def endpoint(self, port=None):
        return stores.files(stores.blob(self.world, port), CONTAINER, self.blob)

    def content(self):
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return self.judged(judge.parquet(self.client().download_blob().readall()))
        except ResourceNotFoundError:
            return judge.ABSENT
