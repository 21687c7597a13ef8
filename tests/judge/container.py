"""Makes a blob container: container.py ENDPOINT KEY_FILE NAME"""

import sys

from azure.storage.blob import BlobServiceClient

endpoint, key_file, name = sys.argv[1:]
BlobServiceClient(endpoint, credential=open(key_file).read().strip(), api_version="2025-11-05").create_container(name)
