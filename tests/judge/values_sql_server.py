"""SQL Server in the values campaign: the TDS fixture, filled and read by python-tds, and read once more by Microsoft's driver.

What SQL Server alone has comes with it: money, its older dates, steps of 100 ns, moments with their own zone, text of a code page.
"""
import datetime as dt
import decimal
import os
import re

D = decimal.Decimal
LOGIN, PASSWORD = "sa", "Fixture-Password-1"
# Rows that the second reader fetches at once.
FETCHED = 5000
WIDE = "abc XYZ 012,;'\"\\\täöü€日本żółw\u00a0"
LATIN = "abcdefghij ABC 0123456789,;'\"\\\täöüßéñ€"


def draw_money(whole):
    def draw(r):
        top = 2**63 - 1 if whole > 6 else 2**31 - 1
        return D(r.choice([0, 1, -1, top, -top - 1]) if r.random() < 0.2 else r.randint(-top - 1, top)).scaleb(-4)
    return draw


def draw_latin(r):
    return "".join(r.choice(LATIN) for _ in range(r.randrange(0, 40)))


def draw_wide(r):
    return "".join(r.choice(WIDE) for _ in range(r.randrange(0, 60)))


def draw_fixed(letters):
    return lambda r: "".join(r.choice(letters) for _ in range(r.randrange(0, 9))).ljust(8)


def draw_bytes(low, high):
    return lambda r: r.randbytes(r.randint(low, high))


def draw_seconds(r):
    return dt.datetime(1000, 1, 1) + dt.timedelta(days=r.randrange(3_287_182), seconds=r.randrange(86_400))


def draw_old(r):
    """A `datetime`, which counts 300 steps a second."""
    steps = r.randrange(300)
    day = dt.datetime(1753, 1, 1) + dt.timedelta(days=r.randrange(3_000_000), seconds=r.randrange(86_400))
    return day + dt.timedelta(milliseconds=(steps * 10 + 1) // 3)


def draw_small(r):
    return dt.datetime(1900, 1, 1) + dt.timedelta(minutes=r.randrange(94_000_000))


def clock(r):
    ticks = r.choice([0, 1, 9_999_999]) if r.random() < 0.2 else r.randrange(10_000_000)
    return f"{r.randrange(24):02}:{r.randrange(60):02}:{r.randrange(60):02}.{ticks:07}"


def draw_ticks(r):
    day = dt.date(1, 1, 1) if r.random() < 0.05 else dt.date(1, 1, 1) + dt.timedelta(days=r.randrange(3_652_059))
    return f"{day.isoformat()} {clock(r)}"


def draw_whole(r):
    """Finer than microseconds in the type, but not in its values; in the years that nanoseconds can count."""
    day = dt.date(1700, 1, 1) + dt.timedelta(days=r.randrange(204_000))
    return f"{day.isoformat()} {clock(r)[:-1]}0"


def draw_offset(r):
    minutes = r.choice([0, 840, -840, 330, -210]) if r.random() < 0.3 else r.randint(-840, 840)
    day = dt.date(1, 1, 3) + dt.timedelta(days=r.randrange(3_652_050))
    sign = "-" if minutes < 0 else "+"
    return f"{day.isoformat()} {clock(r)} {sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def draw_offset_seconds(r):
    moment, zone = draw_offset(r).rsplit(" ", 1)
    return f"{moment[:19]} {zone}"


def draw_xml(r):
    words = "".join(r.choice("abcäö日😀 ") for _ in range(r.randrange(0, 20))).strip()
    return f'<a n="{r.randrange(1000)}">{words}x</a>'


FAMILIES = {"dmoney": draw_money(15), "dsmallmoney": draw_money(6), "latin": draw_latin, "fixed": draw_fixed(LATIN),
            "nfixed": draw_fixed(WIDE), "nshort": draw_wide, "oldtext": draw_wide, "bfixed": draw_bytes(6, 6), "bshort": draw_bytes(0, 60),
            "image": draw_bytes(0, 40), "seconds": draw_seconds, "offset0": draw_offset_seconds, "old": draw_old,
            "small": draw_small, "ticks": draw_ticks, "whole": draw_whole, "clock": clock, "offset": draw_offset, "xml": draw_xml}

# Finer than a microsecond: a target that holds no more stops at such a value, as its plan says.
FINE = {"ticks", "clock"}


def canonical(family, value):
    """One text per value of the families above; None for those that the campaign knows itself."""
    if family in ("latin", "fixed", "nfixed", "nshort", "oldtext", "xml"):
        return value.decode() if isinstance(value, bytes) else str(value)
    if family in ("bfixed", "bshort", "image"):
        return value.hex()
    if family in ("ticks", "whole", "clock", "offset", "offset0"):
        # A blank or none in front of the zone, T or blank behind the day, zeros at the end: the same moment.
        text = re.sub(r" (?=[+-]\d\d:)", "", str(value).replace("T", " "))
        moment, zone = re.fullmatch(r"(.*?)([+-]\d\d:\d\d)?", text).groups()
        head, _, fraction = moment.partition(".")
        return f"{head}.{fraction.rstrip('0')}{zone or ''}"
    return None


class SqlServer:
    """A fixture that runs already, at the port in DMG_VALUES_SQLSERVER."""
    types = {"u8": "tinyint", "i16": "smallint", "i32": "int", "i64": "bigint", "f32": "real", "f64": "float", "d18_4": "decimal(18,4)",
             "d38_10": "decimal(38,10)", "dmoney": "money", "dsmallmoney": "smallmoney", "bool": "bit", "text": "nvarchar(max)",
             "latin": "varchar(60)", "fixed": "char(8)", "nfixed": "nchar(8)", "nshort": "nvarchar(60)", "oldtext": "ntext",
             "bfixed": "binary(6)", "bshort": "varbinary(60)", "image": "image", "seconds": "datetime2(0)", "offset0": "datetimeoffset(0)",
             "bytes": "varbinary(max)", "date": "date", "time": "time(6)", "clock": "time(7)",
             "moment": "datetime2(6)", "old": "datetime", "small": "smalldatetime", "ticks": "datetime2(7)", "whole": "datetime2(7)", "offset": "datetimeoffset(7)",
             "uuid": "uniqueidentifier", "xml": "xml"}
    # What the first reader would cut to microseconds is asked for as text, with the server's number of its form.
    AS_TEXT = {"ticks": 121, "whole": 121, "clock": 121, "offset": 121, "offset0": 121}

    def __init__(self, folder):
        import pytds
        self.port = os.environ["DMG_VALUES_SQLSERVER"]
        self.secret = os.path.join(folder, "sqlserver.password")
        with open(self.secret, "w") as file:
            file.write(PASSWORD)
        self.database = f"values_{os.getpid()}"
        connect = lambda database: pytds.connect("127.0.0.1", database, LOGIN, PASSWORD, port=int(self.port), autocommit=True)
        with connect("master") as connection:
            connection.cursor().execute(f"CREATE DATABASE {self.database}")
        self.connection = connect(self.database)
        self.second = self.microsoft()

    def microsoft(self):
        """Microsoft's own driver, below pyodbc: what it reads must be the same."""
        import glob
        import mssql_python_odbc
        import pyodbc
        root = os.path.dirname(mssql_python_odbc.__file__)
        found = [path for path in glob.glob(f"{root}/**/libmsodbcsql*.so*", recursive=True) if "debian" in path and "x86_64" in path]
        return pyodbc.connect(f"Driver={found[0]};Server=localhost,{self.port};Database={self.database};UID={LOGIN};PWD={PASSWORD};"
                              "Encrypt=no;TrustServerCertificate=yes", autocommit=True)

    def run(self, text):
        cursor = self.connection.cursor()
        cursor.execute(text)
        return cursor.fetchall() if cursor.description else []

    def make(self, table, columns, rows):
        declared = ", ".join(f"c_{name} {self.types[name]} NULL" for name in columns)
        self.run(f"CREATE TABLE {table} (id bigint NOT NULL PRIMARY KEY, {declared})")
        if rows:
            self.load(table, columns, rows)

    def load(self, table, columns, rows):
        """In bulk by the client, with the types that it has."""
        from pytds.tds_base import Column
        from pytds import tds_types as t
        text = t.NVarCharMaxType()
        kinds = {"u8": t.TinyIntType(), "i16": t.SmallIntType(), "i32": t.IntType(), "i64": t.BigIntType(), "f32": t.RealType(),
                 "f64": t.FloatType(), "d18_4": t.DecimalType(18, 4), "d38_10": t.DecimalType(38, 10), "dmoney": t.DecimalType(19, 4),
                 "dsmallmoney": t.DecimalType(10, 4), "bool": t.BitType(), "bytes": t.VarBinaryMaxType(), "bfixed": t.VarBinaryMaxType(),
                 "bshort": t.VarBinaryMaxType(), "image": t.VarBinaryMaxType(), "seconds": t.DateTime2Type(precision=0), "date": t.DateType(),
                 "time": t.TimeType(precision=6), "moment": t.DateTime2Type(precision=6), "old": t.DateTimeType(),
                 "small": t.SmallDateTimeType(), "uuid": t.UniqueIdentifierType()}
        chosen = [Column("id", type=t.BigIntType())] + [Column(f"c_{name}", type=kinds.get(name, text)) for name in columns]
        self.connection.cursor().copy_to(data=iter(rows), table_or_view=table, columns=chosen)

    def side(self, table):
        return [f"sqlserver://{LOGIN}@127.0.0.1:{self.port}/{self.database}?trustServerCertificate=true", "--secret-file", self.secret, "--table", table]

    def asked(self, table, columns):
        def wanted(name):
            return f"CONVERT(nvarchar(40), c_{name}, {self.AS_TEXT[name]})" if name in self.AS_TEXT and self.has(table, name) else f"c_{name}"
        return f"SELECT id, {', '.join(map(wanted, columns))} FROM {table} ORDER BY id"

    def has(self, table, name):
        """Whether the column is of a type of dates: a table made for another store's text is not."""
        found = self.run(f"SELECT TYPE_NAME(c.user_type_id) FROM sys.columns c WHERE c.object_id = OBJECT_ID('{table}') AND c.name = 'c_{name}'")
        return found[0][0] in ("datetime2", "time", "datetimeoffset")

    def read(self, table, columns):
        return self.run(self.asked(table, columns))

    def read_again(self, table, columns):
        """The same rows by the second client, a few at a time."""
        cursor = self.second.cursor()
        # This driver hands times out without their fraction, and no moments with a zone at all.
        made = {row[0]: row[1] for row in self.run(f"SELECT c.name, TYPE_NAME(c.user_type_id) FROM sys.columns c WHERE c.object_id = OBJECT_ID('{table}')")}
        texts = ("time", "datetimeoffset", "datetime2")
        wanted = [f"CONVERT(nvarchar(40), c_{name}, 121)" if made[f"c_{name}"] in texts else f"c_{name}" for name in columns]
        cursor.execute(f"SELECT id, {', '.join(wanted)} FROM {table} ORDER BY id")
        while rows := cursor.fetchmany(FETCHED):
            yield from rows

    def drop(self, table):
        self.run(f"DROP TABLE IF EXISTS {table}")

    def close(self):
        self.second.close()
        self.run("USE master")
        self.run(f"DROP DATABASE {self.database}")
        self.connection.close()
