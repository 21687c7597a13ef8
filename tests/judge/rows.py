"""Counts and fingerprints rows of a Parquet file or blob, by pyarrow, for tests that ask: old content or new?

rows.py file PATH              rows.py blob ENDPOINT KEYFILE CONTAINER NAME
Prints `<rows> <sha256 of the rows, sorted by id>`, or `absent`.
"""

import hashlib
import io
import os
import sys

import pyarrow.parquet as parquet


def fingerprint(table):
    table = table.sort_by([("id", "ascending"), ("batch", "ascending")])
    digest = hashlib.sha256()
    for name in ("id", "batch", "label", "amount", "at"):
        digest.update(name.encode())
        for value in table.column(name).to_pylist():
            digest.update(str(value).encode())
            digest.update(b"\n")
    return f"{table.num_rows} {digest.hexdigest()}"


def main():
    if sys.argv[1] == "file":
        print(fingerprint(parquet.read_table(sys.argv[2])) if os.path.exists(sys.argv[2]) else "absent")
        return
    from azure.core.exceptions import ResourceNotFoundError
    from azure.storage.blob import BlobServiceClient

    endpoint, key_file, container, name = sys.argv[2:6]
    with open(key_file, encoding="utf-8") as file:
        key = file.read().strip()
    credential = {"account_name": endpoint.rstrip("/").rsplit("/", 1)[1], "account_key": key}
    service = BlobServiceClient(endpoint, credential=credential, api_version="2025-11-05")
    try:
        data = service.get_blob_client(container, name).download_blob().readall()
    except ResourceNotFoundError:
        print("absent")
        return
    print(fingerprint(parquet.read_table(io.BytesIO(data))))


main()
