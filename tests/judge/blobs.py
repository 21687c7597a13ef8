"""Lists the blobs of a container, one line each with ETag and hash of the content, and puts them into a folder, if one
is named: blobs.py ENDPOINT KEY_FILE NAME [FOLDER]"""

import hashlib
import pathlib
import sys

from azure.storage.blob import BlobServiceClient

endpoint, key_file, name, *folder = sys.argv[1:]
service = BlobServiceClient(endpoint, credential=open(key_file).read().strip(), api_version="2025-11-05")
container = service.get_container_client(name)
for blob in container.list_blobs():
    content = container.download_blob(blob.name).readall()
    if folder:
        path = pathlib.Path(folder[0], blob.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(blob.name, blob.etag, hashlib.sha256(content).hexdigest())
