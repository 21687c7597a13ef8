"""Compares a file that the product wrote with the PostgreSQL table it came from, value by value, as text.

    compare.py parquet DSN PASSWORD_FILE TABLE FILE...    read by pyarrow
    compare.py text    DSN PASSWORD_FILE TABLE FILE...    read by the server's own COPY; --escape CHARACTER, --null TEXT

The content goes into a table of the same types in the judge's own session; then EXCEPT ALL of t::text both ways.
"""

import argparse
import sys
import uuid

import psycopg


def python_value(value, type_name):
    if value is not None and type_name == "uuid" and isinstance(value, bytes):
        return uuid.UUID(bytes=value)
    return value


def load_parquet(cursor, paths, types):
    import pyarrow.parquet

    for path in paths:
        file = pyarrow.parquet.ParquetFile(path)
        names = ", ".join(f'"{name}"' for name in file.schema_arrow.names)
        with cursor.copy(f"COPY judged ({names}) FROM STDIN") as copy:
            for batch in file.iter_batches():
                columns = [batch.column(i) for i in range(batch.num_columns)]
                columns = [getattr(column, "storage", column).to_pylist() for column in columns]
                for row in zip(*columns):
                    copy.write_row([python_value(v, types[n]) for n, v in zip(file.schema_arrow.names, row)])


def load_text(cursor, paths, escape, null):
    for path in paths:
        with cursor.copy(f"COPY judged FROM STDIN (FORMAT csv, HEADER, ESCAPE '{escape}', NULL '{null}')") as copy:
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    copy.write(block)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=["parquet", "text"])
    parser.add_argument("dsn")
    parser.add_argument("password_file")
    parser.add_argument("table")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--escape", default='"')
    parser.add_argument("--null", default="")
    given = parser.parse_args()
    password = open(given.password_file, encoding="utf-8").read().strip()
    with psycopg.connect(given.dsn, password=password) as connection, connection.cursor() as cursor:
        cursor.execute("SET TimeZone = 'UTC'; SET extra_float_digits = 3")
        cursor.execute(f"CREATE TEMPORARY TABLE judged (LIKE {given.table})")
        cursor.execute("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                       "WHERE attrelid = 'judged'::regclass AND attnum > 0")
        types = dict(cursor.fetchall())
        if given.format == "parquet":
            load_parquet(cursor, given.files, types)
        else:
            load_text(cursor, given.files, given.escape, given.null)
        one_way = "(SELECT count(*) FROM (SELECT t::text FROM {} t EXCEPT ALL SELECT t::text FROM {} t) d)"
        cursor.execute(f"SELECT (SELECT count(*) FROM judged), {one_way.format(given.table, 'judged')}, "
                       f"{one_way.format('judged', given.table)}")
        rows, missing, invented = cursor.fetchone()
    print(f"{rows} rows in the file, {missing} of the table missing, {invented} not in the table")
    return 1 if missing or invented else 0


if __name__ == "__main__":
    sys.exit(main())
