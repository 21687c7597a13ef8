"""Sends the version 1 calls of tests/golden/v1-gateway.json as they stand and compares the answers member by member.

    v1_gateway.py EXCHANGES URL CA TOKEN_FILE

In an expected answer a text that begins with ~ is a pattern for the whole member; lists hold at least the members named.
`keep` remembers members under a name, `changed` wants them to differ from what was remembered, `absent` wants none.
"""

import json
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/{}/providers/Microsoft.DataFactory"


def differences(expected, answer, path):
    if isinstance(expected, dict):
        if not isinstance(answer, dict):
            yield f"{path}: {answer!r} is no object"
            return
        for name, value in expected.items():
            if name not in answer:
                yield f"{path}.{name} is missing"
            else:
                yield from differences(value, answer[name], f"{path}.{name}")
    elif isinstance(expected, list):
        if not isinstance(answer, list):
            yield f"{path}: {answer!r} is no list"
            return
        for index, value in enumerate(expected):
            if not any(not list(differences(value, item, "")) for item in answer):
                yield f"{path}: no item is like number {index}: {answer!r}"
    elif isinstance(expected, str) and expected.startswith("~"):
        if not isinstance(answer, str) or not re.fullmatch(expected[1:], answer, re.S):
            yield f"{path}: {answer!r} is not like {expected[1:]}"
    elif expected != answer:
        yield f"{path}: {answer!r} instead of {expected!r}"


def send(exchange, url, context, token):
    base = GROUP.format(exchange.get("group", "v1-group")) + "/datafactories"
    if exchange["path"] != "..":
        base += f"/{exchange.get('factory', 'v1-factory')}{exchange['path']}"
    version = exchange.get("version", "2015-10-01")
    text = exchange.get("text", json.dumps(exchange["body"]) if "body" in exchange else None)
    headers = {"x-ms-client-request-id": "5d0c5ad8-0000-4000-8000-000000000009", "x-ms-version": version}
    if exchange.get("token", token):
        headers["Authorization"] = f"Bearer {token}"
    data = None
    if exchange["method"] != "GET":
        data = (text or "").encode()
        if text:
            headers["Content-Type"] = "application/json; charset=utf-8"
    request = urllib.request.Request(f"{url}{base}?api-version={version}", data, headers, method=exchange["method"])
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, dict(answer.headers), answer.read()


def main(exchanges, url, ca, token_file):
    with open(exchanges, encoding="utf-8") as file:
        exchanges = json.load(file)
    token = open(token_file, encoding="utf-8").read().strip()
    context = ssl.create_default_context(cafile=ca)
    kept, wrong = {}, 0
    for exchange in exchanges:
        status, headers, body = send(exchange, url, context, token)
        found = []
        if status not in exchange["status"]:
            found.append(f"status {status} instead of {exchange['status']}: {body.decode(errors='replace')[:500]}")
        if not any(name.lower() == "x-ms-request-id" for name in headers):
            found.append("no x-ms-request-id")
        if status == 401 and not any(name.lower() == "www-authenticate" for name in headers):
            found.append("no WWW-Authenticate")
        if "answer" in exchange:
            try:
                answer = json.loads(body)
            except ValueError:
                answer = None
            found += differences(exchange["answer"], answer, "answer")
            answer = answer if isinstance(answer, dict) else {}
            found += [f"{name} was not to be there" for name in exchange.get("absent", []) if name in answer]
            found += [f"{name} did not change" for name, old in exchange.get("changed", {}).items()
                      if answer.get(name) == kept.get(old)]
            kept.update({name: answer.get(member) for member, name in exchange.get("keep", {}).items()})
        for text in found:
            print(f"{exchange['name']}: {text}")
        wrong += bool(found)
    print(f"{len(exchanges)} exchanges, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
