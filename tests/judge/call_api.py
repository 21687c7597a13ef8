"""Sends one request as it is, broken ones too, and prints the answer as it came: status, headers, body.

    call_api.py METHOD URL TOKEN_FILE CA      the body comes by standard input
"""

import http.client
import ssl
import sys
from urllib.parse import urlsplit

method, url, token_file, ca = sys.argv[1:]
parts = urlsplit(url)
connection = http.client.HTTPSConnection(
    parts.hostname, parts.port, timeout=60, context=ssl.create_default_context(cafile=ca))
headers = {"Authorization": "Bearer " + open(token_file).read().strip(), "Content-Type": "application/json"}
body = sys.stdin.buffer.read()
connection.request(method, parts.path + ("?" + parts.query if parts.query else ""), body or None, headers)
answer = connection.getresponse()
sys.stdout.buffer.write(f"{answer.status} {answer.reason}\n{answer.msg}\n".encode() + answer.read())
