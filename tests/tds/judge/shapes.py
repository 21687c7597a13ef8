"""The types every client is tried with: how a column is declared, three values as T-SQL writes them, and what they are."""
import datetime as dt
import decimal
import uuid

D = decimal.Decimal
UTC = dt.timezone.utc


def zone(minutes):
    return dt.timezone(dt.timedelta(minutes=minutes))


# name, declaration, [(literal, value)]; a third row is all NULL.
SHAPES = [
    ("bit", "bit", [("1", True), ("0", False)]),
    ("tinyint", "tinyint", [("0", 0), ("255", 255)]),
    ("smallint", "smallint", [("-32768", -32768), ("32767", 32767)]),
    ("int", "int", [("-2147483648", -(2**31)), ("2147483647", 2**31 - 1)]),
    ("bigint", "bigint", [("-9007199254740991", -9007199254740991), ("9223372036854775807", 2**63 - 1)]),
    ("real", "real", [("1.5", 1.5), ("-0.25", -0.25)]),
    ("float", "float", [("0.1", 0.1), ("-1.7976931348623157E+308", -1.7976931348623157e308)]),
    ("smallmoney", "smallmoney", [("-214748.3648", D("-214748.3648")), ("1.0000", D("1.0000"))]),
    ("money", "money", [("-922337203685477.5808", D("-922337203685477.5808")), ("0.0001", D("0.0001"))]),
    ("decimal", "decimal(10,2)", [("-12345678.90", D("-12345678.90")), ("0.01", D("0.01"))]),
    ("numeric", "numeric(38,10)", [("1234567890123456789012345678.0123456789", D("1234567890123456789012345678.0123456789")), ("-0.0000000001", D("-0.0000000001"))]),
    ("date", "date", [("'0001-01-01'", dt.date(1, 1, 1)), ("'9999-12-31'", dt.date(9999, 12, 31))]),
    ("time0", "time(0)", [("'00:00:00'", dt.time(0, 0)), ("'23:59:59'", dt.time(23, 59, 59))]),
    ("time7", "time(7)", [("'00:00:00.000001'", dt.time(0, 0, 0, 1)), ("'23:59:59.999999'", dt.time(23, 59, 59, 999999))]),
    ("smalldatetime", "smalldatetime", [("'1900-01-01 00:01:00'", dt.datetime(1900, 1, 1, 0, 1)), ("'2079-06-06 23:59:00'", dt.datetime(2079, 6, 6, 23, 59))]),
    ("datetime", "datetime", [("'1753-01-01 00:00:00.003'", dt.datetime(1753, 1, 1, 0, 0, 0, 3000)), ("'9999-12-31 23:59:59.997'", dt.datetime(9999, 12, 31, 23, 59, 59, 997000))]),
    ("datetime2_0", "datetime2(0)", [("'0001-01-01 00:00:00'", dt.datetime(1, 1, 1)), ("'9999-12-31 23:59:59'", dt.datetime(9999, 12, 31, 23, 59, 59))]),
    ("datetime2_7", "datetime2(7)", [("'2024-02-29 12:34:56.789123'", dt.datetime(2024, 2, 29, 12, 34, 56, 789123)), ("'1969-12-31 23:59:59.999999'", dt.datetime(1969, 12, 31, 23, 59, 59, 999999))]),
    ("dto", "datetimeoffset(7)", [("'2024-02-29 00:30:00.123456 +05:30'", dt.datetime(2024, 2, 29, 0, 30, 0, 123456, zone(330))), ("'1969-12-31 23:59:59.999999 -03:30'", dt.datetime(1969, 12, 31, 23, 59, 59, 999999, zone(-210)))]),
    ("char", "char(5)", [("'abc'", "abc  "), ("'12345'", "12345")]),
    ("varchar", "varchar(20)", [("'caf\u00e9 \u20ac'", "caf\u00e9 \u20ac"), ("'it''s'", "it's")]),
    ("varcharmax", "varchar(max)", [("replicate(convert(varchar(max), 'ab'), 10000)", "ab" * 10000), ("'x'", "x")]),
    ("text", "text", [("'old'", "old"), ("'older'", "older")]),
    ("nchar", "nchar(4)", [("N'\u017c\u00f3\u0142w'", "\u017c\u00f3\u0142w"), ("N'a'", "a   ")]),
    ("nvarchar", "nvarchar(20)", [("N'\u4f60\u597d'", "\u4f60\u597d"), ("N'\U0001f600 it''s'", "\U0001f600 it's")]),
    ("nvarcharmax", "nvarchar(max)", [("replicate(convert(nvarchar(max), N'\u00e4'), 9000)", "\u00e4" * 9000), ("N'line\nbreak'", "line\nbreak")]),
    ("ntext", "ntext", [("N'\u017c'", "\u017c"), ("N'z'", "z")]),
    ("binary", "binary(4)", [("0x00FF00FF", b"\x00\xff\x00\xff"), ("0x00000001", b"\x00\x00\x00\x01")]),
    ("varbinary", "varbinary(10)", [("0xDEADBEEF", b"\xde\xad\xbe\xef"), ("0x00", b"\x00")]),
    ("varbinarymax", "varbinary(max)", [("0x0102", b"\x01\x02"), ("0xFF", b"\xff")]),
    ("image", "image", [("0x00FF", b"\x00\xff"), ("0x41", b"A")]),
    ("guid", "uniqueidentifier", [("'00112233-4455-6677-8899-AABBCCDDEEFF'", uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")), ("'FFFFFFFF-0000-0000-0000-000000000001'", uuid.UUID("ffffffff-0000-0000-0000-000000000001"))]),
    ("xml", "xml", [("'<a>1</a>'", "<a>1</a>"), ("N'<b x=\"\u017c\"/>'", '<b x="\u017c"/>')]),
]
NAMES = [name for name, _, _ in SHAPES]


def create(table):
    columns = ", ".join(f"[{name}] {declared} NULL" for name, declared, _ in SHAPES)
    return f"CREATE TABLE {table} (id int NOT NULL PRIMARY KEY, {columns})"


def insert(table, number, pick):
    values = ", ".join("NULL" if pick is None else values[pick][0] for _, _, values in SHAPES)
    return f"INSERT INTO {table} VALUES ({number}, {values})"


def rows():
    """The three rows as values."""
    return [[values[at][1] for _, _, values in SHAPES] for at in range(2)] + [[None] * len(SHAPES)]


def plain(value):
    """A value as text that says the same whichever client gave it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, decimal.Decimal):
        text = format(value.normalize() if value else D(0), "f")
        return text
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            # The moment and the zone, so that neither may be lost.
            minutes = int(value.utcoffset().total_seconds() // 60)
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + f" {minutes:+d}"
        return value.isoformat(timespec="microseconds")
    if isinstance(value, dt.time):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds")
    return str(value)
