"""Makes one page of several result files of campaigns: summarize.py FILE... prints Markdown, without places of this
machine."""

import collections
import json
import sys

KINDS = {
    "kill": "random kill of the worker",
    "zombie": "zombie race",
    "late": "granted commit after the successor's",
    "early": "granted commit while the successor plans",
    "overtaken": "older attempt thawed before the successor's commit",
    "resume": "killed with parts staged, gone on from there",
    "adopted": "older attempt thawed after its parts were taken over",
    "cancel": "cancelled, or refused the commit",
    "again": "part that breaks off once",
    "moving": "source changed while it is read",
    "repeat": "connection cut in the middle of rows",
    "corrupt": "bit turned on the way to the sink",
    "replace": "reader every 20 ms",
    "foreign": "target changed by somebody else",
    "clock": "wall clock jumps",
    "durable": "order of syncs",
    "server": "server killed",
    "point": "failpoint",
    "nth": "n-th failure",
    "network": "fault proxy between worker and store",
    "stack-plain": "installation, nothing broken",
    "stack-kill": "host or service killed",
    "stack-point": "failpoint of host, service, state",
    "stack-lease": "node frozen across the end of its lease",
    "stack-channel": "fault proxy between host and service",
}


def main():
    results = []
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            results += [json.loads(line) for line in file]
    sound = [result for result in results if not result["plant"]]
    families = sorted({result["target"].split("-")[0] for result in sound})
    print("| kind | " + " | ".join(families) + " | trials | wrong |")
    print("| --- |" + " ---: |" * (len(families) + 2))
    for kind in sorted({result["kind"] for result in sound}, key=list(KINDS).index):
        rows = [result for result in sound if result["kind"] == kind]
        counts = [sum(result["target"].startswith(family + "-") for result in rows) for family in families]
        wrong = sum(bool(result["wrong"]) for result in rows)
        print(f"| {KINDS[kind]} | " + " | ".join(str(count or "") for count in counts) + f" | {len(rows)} | {wrong} |")
    kills = [result for result in sound if result["kind"] == "kill"]
    met = sum(bool(result.get("met")) for result in kills)
    points = {(result["point"], result["action"]) for result in sound if result["kind"] in ("point", "stack-point") and "point" in result}
    looks = sum(result.get("looks", 0) for result in sound)
    struck = sum(bool(result.get("struck")) for result in sound if result["kind"] in ("network", "stack-channel"))
    print(f"\n{len(sound)} trials, {sum(bool(result['wrong']) for result in sound)} wrong.")
    print(f"{met} of {len(kills)} kills met a living worker. {looks} looks of readers.")
    print(f"{len({point for point, _ in points})} failpoints, {len(points)} with their actions. {struck} network faults struck.")
    sources = collections.Counter(result["source"] for result in sound if result.get("source"))
    told = ", ".join(f"{name} {count}" for name, count in sources.most_common())
    if told:
        print(f"Sources: {told}.")
    for result in sound:
        if result["wrong"]:
            print(f"- {result['kind']}/{result['trial']}/{result['target']}: {result['wrong']['check']}")


main()
