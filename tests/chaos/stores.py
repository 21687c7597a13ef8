"""How jobs name the stores: settings without secrets, and the secrets, for every store of a campaign."""


def postgres(world, port=None, ssl="disable"):
    server = world.postgres
    settings = {"host": server.HERE, "port": port or server.port, "database": "dmg", "user": "dmg", "sslMode": ssl}
    return {"store": "postgres", "settings": settings}, {"password": server.password}


def mariadb(world, port=None):
    server = world.mariadb
    settings = {"host": server.HERE, "port": port or server.port, "database": server.database, "user": server.user}
    return {"store": "mysql", "settings": {**settings, "sslMode": "disable"}}, {"password": server.password}


def sqlserver(world, port=None):
    server = world.sqlserver
    settings = {"host": server.HERE, "port": port or server.port, "database": server.DATABASE, "user": server.USER}
    # Only the log-in is encrypted, so that a bad network reaches the rows.
    settings.update(encrypt="optional", trustServerCertificate="true")
    return {"store": "sqlserver", "settings": settings}, {"password": server.PASSWORD}


def blob(world, port=None):
    endpoint = f"http://127.0.0.1:{port or world.azurite.port}/devstoreaccount1"
    settings = {"account": "devstoreaccount1", "endpoint": endpoint}
    return {"store": "azblob", "settings": settings}, {"accountKey": world.azurite.key}


def sqlite(path):
    return {"store": "sqlite", "settings": {"path": path}}, {}


def folder(root):
    return {"store": "file", "settings": {"root": root}}, {}


def table(store, name, schema=None):
    place = {"kind": "table", "schema": schema, "table": name} if schema else {"kind": "table", "table": name}
    return {"store": store[0], "object": place}, store[1]


def files(store, folder, file=None):
    where = {"kind": "files", "folder": folder, "recursive": False}
    if file:
        where["file"] = file
    return {"store": store[0], "object": where, "format": {"format": "parquet"}}, store[1]


# What the proxy stands before, by family.
PORTS = {name: lambda world, name=name: getattr(world, name).port for name in ("postgres", "mariadb", "sqlserver")}
PORTS["blob"] = lambda world: world.azurite.port


def job(source, sink, options):
    parties = {name: "chaos" for name in ("factory", "gateway", "node", "pipeline", "activity", "pipelineRun")}
    shared = {"verify": "transferred", "parallel": 2, "memoryMib": 64, "allowLossy": [], "createTable": False}
    shared.update({"preCopyScript": None, **options})
    return {"type": "copy", "parties": parties, "source": source, "sink": sink, "options": shared}
