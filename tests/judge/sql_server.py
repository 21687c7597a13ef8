"""What python-tds says of the TDS fixture.

sql_server.py run PORT SQL
    runs a batch; prints the rows of its last result, values separated by bars
sql_server.py dump PORT TABLE FILE
    writes a table as psql's COPY ... CSV HEADER would

Uses python-tds and Python's csv module; nothing of the program under test.
"""

import csv
import decimal
import sys

import pytds

LOGIN, PASSWORD = "sa", "Fixture-Password-1"


def connected(port):
    return pytds.connect("127.0.0.1", "fixture", LOGIN, PASSWORD, port=int(port), autocommit=True)


def shown(value, column):
    if isinstance(value, decimal.Decimal):
        # The client drops zeros at the end.
        return f"{value:.{column[5]}f}"
    if isinstance(value, bool):
        return "t" if value else "f"
    if hasattr(value, "isoformat"):
        return value.isoformat(" ")
    return value.hex() if isinstance(value, bytes) else str(value)


def run(port, sql):
    with connected(port) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        rows, columns = [], []
        while True:
            if cursor.description:
                columns, rows = cursor.description, cursor.fetchall()
            if not cursor.nextset():
                break
        for row in rows:
            print("|".join("NULL" if value is None else shown(value, column) for value, column in zip(row, columns)))


def dump(port, table, path):
    with connected(port) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            columns = cursor.description
            writer.writerow([column[0] for column in columns])
            while rows := cursor.fetchmany(10_000):
                for row in rows:
                    writer.writerow("" if value is None else shown(value, column) for value, column in zip(row, columns))


globals()[sys.argv[1]](*sys.argv[2:])
