"""Servers of a campaign's own: they are killed, so nobody else's may be used. They keep their port over a restart."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def exports(text):
    lines = (line[7:].split("=", 1) for line in text.splitlines() if line.startswith("export "))
    return dict(lines)


def children(parent):
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.split("/")[2]))
    return found


def alive(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def kill_all(processes):
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for process in processes:
        end = time.monotonic() + 20
        while alive(process) and time.monotonic() < end:
            time.sleep(0.005)


class Server:
    """What the judge says to a server: over one connection for each of its threads, made anew when it is gone."""

    HERE = "127.0.0.1"

    def connection(self):
        if not hasattr(self, "own"):
            self.own = threading.local()
        if getattr(self.own, "connection", None) is None:
            self.own.connection = self.connect()
        return self.own.connection

    def said(self, sql, speak):
        for last in (False, True):
            try:
                cursor = self.connection().cursor()
                try:
                    return speak(cursor, sql)
                finally:
                    cursor.close()
            except Exception as error:
                if last or not self.is_gone(error):
                    raise
                self.own.connection = None

    def run(self, *statements):
        for sql in statements:
            self.said(sql, lambda cursor, sql: cursor.execute(sql))

    def rows(self, sql):
        def speak(cursor, sql):
            cursor.execute(sql)
            return list(cursor.fetchall())

        return self.said(sql, speak)


class Postgres(Server):
    """A cluster made by tests/servers/postgres/start, then started again and again on the same port."""

    BINARIES = "/usr/lib/postgresql/15/bin"

    def __init__(self, folder):
        self.folder = folder
        script = f"{ROOT}/tests/servers/postgres/start"
        made = subprocess.run(
            [script, folder, "fsync=off"], stdout=subprocess.PIPE, text=True, check=True, stdin=subprocess.DEVNULL
        )
        found = exports(made.stdout)
        self.port = int(found["DMG_TEST_POSTGRES"].rsplit(":", 1)[1].split("/")[0])
        with open(found["DMG_TEST_POSTGRES_PASSWORD_FILE"], encoding="utf-8") as file:
            self.password = file.read().strip()

    def connect(self, database="dmg"):
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="dmg",
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
            application_name="judge",
            # A table is made anew for each trial; a statement prepared for the one before would be refused.
            prepare_threshold=None,
        )

    def is_gone(self, error):
        import psycopg

        return isinstance(error, psycopg.OperationalError)

    def load(self, table, names, rows):
        def speak(cursor, sql):
            with cursor.copy(sql) as copy:
                for row in rows:
                    copy.write_row(row)

        self.said(f"COPY {table} ({', '.join(names)}) FROM STDIN", speak)

    def pid(self):
        with open(f"{self.folder}/cluster/postmaster.pid", encoding="utf-8") as file:
            return int(file.readline())

    def kill(self):
        """As after a loss of power, except that what the kernel holds is not lost."""
        postmaster = self.pid()
        everybody = [postmaster, *children(postmaster)]
        kill_all(everybody)
        # Its number may still be taken by what nobody has reaped; the server would take that for a living one.
        for lock in (f"{self.folder}/cluster/postmaster.pid", *glob.glob(f"{self.folder}/sockets/.s.PGSQL.*")):
            os.remove(lock)

    def start(self):
        owner = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}/sockets "
            "-c max_connections=100 -c fsync=off"
        )
        command = [f"{self.BINARIES}/pg_ctl", "--pgdata", f"{self.folder}/cluster", "--log", f"{self.folder}/server.log"]
        command += ["--wait", "--timeout", "60", "--options", options, "start"]
        for _ in range(5):
            ran = subprocess.run(
                [*(owner if os.getuid() == 0 else []), "setsid", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            if ran.returncode == 0:
                return
            time.sleep(0.2)
        raise RuntimeError("PostgreSQL does not come back")

    def stop(self):
        subprocess.run([f"{ROOT}/tests/servers/postgres/stop", self.folder], check=False, stdin=subprocess.DEVNULL)


class MariaDb(Server):
    """A server made by tests/servers/mariadb/start, then started again on the same port."""

    def __init__(self, folder):
        self.folder = folder
        script = f"{ROOT}/tests/servers/mariadb/start"
        made = subprocess.run([script, folder], stdout=subprocess.PIPE, text=True, check=True, stdin=subprocess.DEVNULL)
        found = exports(made.stdout)
        url = found["DMG_TEST_MARIADB"]
        place, self.database = url.split("://", 1)[1].split("/", 1)
        self.user, address = place.rsplit("@", 1)
        self.port = int(address.rsplit(":", 1)[1])
        with open(found["DMG_TEST_MARIADB_PASSWORD_FILE"], encoding="utf-8") as file:
            self.password = file.read().strip()
        self.process = self.find()
        with open(f"/proc/{self.process}/cmdline", "rb") as file:
            self.command = [word.decode() for word in file.read().split(b"\0") if word]
        self.owner = os.stat(f"/proc/{self.process}").st_uid

    def find(self):
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[0].endswith((b"mariadbd", b"mysqld")) and any(self.folder.encode() in word for word in words):
                return int(path.split("/")[2])
        raise RuntimeError("mariadbd is not found")

    def connect(self):
        import pymysql

        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            database=self.database,
            autocommit=True,
            connect_timeout=10,
            charset="utf8mb4",
        )

    def is_gone(self, error):
        import pymysql

        return isinstance(error, (pymysql.err.InterfaceError, OSError)) or error.args[:1] in ((2003,), (2006,), (2013,))

    def load(self, table, names, rows):
        marks = ", ".join(["%s"] * len(names))
        sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
        self.said(sql, lambda cursor, sql: cursor.executemany(sql, rows))

    def kill(self):
        kill_all([self.process])

    def start(self):
        # The words of the first start hold the port; a user to change to is given only where it was.
        command = [word for word in self.command if not word.startswith("--port=")] + [f"--port={self.port}"]
        if os.getuid() == 0 and self.owner != 0:
            command = ["setpriv", "--reuid", str(self.owner), "--regid", str(self.owner), "--clear-groups", *command]
        with open(f"{self.folder}/restart.log", "ab") as log:
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.process = started.pid
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                self.connect().close()
                return
            except Exception:  # noqa: BLE001 - whatever the driver says, it is asked again
                if started.poll() is not None:
                    raise RuntimeError("MariaDB does not come back") from None
                time.sleep(0.05)
        raise RuntimeError("MariaDB does not answer")

    def stop(self):
        kill_all([self.process])


class SqlServer(Server):
    """The fixture of tests/tds. It keeps its rows in memory, so it is never killed."""

    USER, PASSWORD, DATABASE = "sa", "Fixture-Password-1", "fixture"

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def connect(self):
        import pymssql

        return pymssql.connect(
            self.HERE,
            self.USER,
            self.PASSWORD,
            self.DATABASE,
            port=str(self.port),
            tds_version="7.4",
            autocommit=True,
            charset="UTF-8",
            appname="judge",
        )

    def is_gone(self, error):
        import pymssql

        return isinstance(error, (pymssql.InterfaceError, pymssql.OperationalError)) and "DBPROCESS" in str(error)

    @staticmethod
    def literal(value):
        if value is None:
            return "NULL"
        if isinstance(value, str):
            return "N'" + value.replace("'", "''") + "'"
        return f"'{value.isoformat()}'" if hasattr(value, "isoformat") else str(value)

    def load(self, table, names, rows):
        for first in range(0, len(rows), 500):
            values = ", ".join(f"({', '.join(map(self.literal, row))})" for row in rows[first : first + 500])
            # The driver would take a per cent sign for a place of a parameter.
            self.run(f"INSERT INTO {table} ({', '.join(names)}) VALUES {values}")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


class Azurite:
    """Never killed: it keeps its metadata by autosave and would lose commits that it has acknowledged."""

    def __init__(self, folder, place):
        self.folder = folder
        script = f"{ROOT}/tests/servers/azurite/start"
        made = subprocess.run(
            [script, folder, place], stdout=subprocess.PIPE, text=True, check=True, stdin=subprocess.DEVNULL
        )
        found = exports(made.stdout)
        self.port = int(found["DMG_TEST_AZURITE"].rsplit(":", 1)[1])
        with open(found["DMG_TEST_AZURITE_KEY_FILE"], encoding="utf-8") as file:
            self.key = file.read().strip()

    def client(self):
        from azure.storage.blob import BlobServiceClient

        if not hasattr(self, "made"):
            credential = {"account_name": "devstoreaccount1", "account_key": self.key}
            self.made = BlobServiceClient(
                f"http://127.0.0.1:{self.port}/devstoreaccount1", credential=credential, api_version="2025-11-05"
            )
        return self.made

    def stop(self):
        subprocess.run([f"{ROOT}/tests/servers/azurite/stop", self.folder], check=False, stdin=subprocess.DEVNULL)


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
