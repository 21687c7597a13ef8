"""Lists the blobs of a container, one line each with ETag and hash of the content: blobs.py ENDPOINT KEY_FILE NAME"""

import hashlib
import sys

from azure.storage.blob import BlobServiceClient

endpoint, key_file, name = sys.argv[1:]
service = BlobServiceClient(endpoint, credential=open(key_file).read().strip(), api_version="2025-11-05")
container = service.get_container_client(name)
for blob in container.list_blobs():
    content = container.download_blob(blob.name).readall()
    print(blob.name, blob.etag, hashlib.sha256(content).hexdigest())
