"""Breaks copies on purpose and judges what is left. Run it by `cargo xtask chaos`; docs/chaos.md tells more.

chaos.py --program FILE --servers FOLDER [--proxy FILE] [--tds FILE] [--seed N] [--rows N] [--minutes M] [--result FILE]
         [--kills N] [--zombies N] [--late N] [--early N] [--overtaken N] [--resumes N] [--adopted N]
         [--cancels N] [--replaces N]
         [--foreign N] [--moving N] [--corrupt N] [--repeats N] [--parts N] [--clocks N] [--durable N] [--server-kills N] [--failpoints all|N] [--nth all|N] [--network all|N]
         [--stack N] [--bugs all|rotate|NAME] [--targets NAME,...] [--sources NAME,...] [--only KIND/NUMBER/TARGET]
"""

import argparse
import json
import signal
import sys
import time

import bugs
import crashes
import moving
import network
import points
import races
import stack
import sweeps
import trials
from trials import Trial, Wrong
from world import World

KINDS = {**crashes.KINDS, **races.KINDS, **points.KINDS, **network.KINDS, **moving.KINDS}
# Sinks that an attempt may go on in where an earlier one ended.
CHECKPOINTS = ("postgres", "mariadb")


def goes_on(target):
    """Not where rows are left out; and into a procedure of PostgreSQL each attempt begins anew."""
    left_out = target.name == "postgres-tolerant" or screened(target)
    return target.family in CHECKPOINTS and not left_out and target.name != "postgres-procedure"


def screened(target):
    return target.name.endswith("-screened")


# Options that are numbers of trials, their kind, and which targets it is for.
SIZES = {
    "kills": ("kill", lambda target: True),
    "zombies": ("zombie", lambda target: True),
    "late": ("late", lambda target: True),
    "early": ("early", lambda target: True),
    "overtaken": ("overtaken", lambda target: True),
    "resumes": ("resume", goes_on),
    "adopted": ("adopted", goes_on),
    "cancels": ("cancel", lambda target: True),
    "replaces": ("replace", lambda target: target.polls),
    "foreign": ("foreign", lambda target: target.mode != "procedure"),
    # Which state of the source a row is of is told by its number, and old rows have none that the source has.
    "moving": ("moving", lambda target: target.mode in ("append", "overwrite") and not target.size and not screened(target)),
    "corrupt": ("corrupt", lambda target: target.family in network.PLAIN),
    "repeats": ("repeat", lambda target: True),
    "parts": ("again", lambda target: target.family in points.PARTS),
    "clocks": ("clock", lambda target: True),
    "durable": ("durable", lambda target: target.family == "file"),
    "server-kills": ("server", lambda target: target.server),
}


def of_kind(world, kind, count, chosen):
    """So many trials of a kind, in turn over the targets. A kill that came too late does not count."""
    number = counted = 0
    while chosen and counted < count and number < 3 * count and not world.late():
        trial = Trial(world, kind, number, chosen[number % len(chosen)], world.seed)
        world.attempt(trial, KINDS[kind])
        counted += trial.notes.get("met", True)
        number += 1


def again(world, text):
    """One trial of an earlier campaign."""
    kind, rest = text.split("/", 1)
    number, name = rest.rsplit("/", 1)
    target = next(target for target in world.targets if target.name == name)
    trials.plain(world, target, world.seed)
    trial = Trial(world, kind, int(number) if number.isdigit() else number, target, world.seed)
    work = KINDS.get(kind)
    if kind == "point":
        work = lambda trial: points.point(trial, *number.split("/"))  # noqa: E731
    elif kind == "nth":
        work = sweeps.one_of(*number.split("/")[:1], int(number.split("/")[1]))
    elif kind == "network":
        work = network.case_of(world, number)
    world.attempt(trial, work)
    print(json.dumps(world.results[-1], indent=1))


def summary(world):
    table = {}
    for result in world.results:
        if result["plant"]:
            continue
        family = result["target"].split("-")[0]
        cell = table.setdefault((result["kind"], family), [0, 0, 0.0])
        cell[0] += 1
        cell[1] += bool(result["wrong"])
        cell[2] += result["seconds"]
    world.say(f"\n{'kind':10} {'sink':10} {'trials':>7} {'wrong':>6} {'seconds':>8}")
    for (kind, family), (count, wrong, seconds) in sorted(table.items()):
        world.say(f"{kind:10} {family:10} {count:>7} {wrong:>6} {seconds:>8.0f}")
    kills = [result for result in world.results if result["kind"] == "kill" and not result["plant"]]
    met = sum(bool(result.get("met")) for result in kills)
    if kills:
        new = sum(result.get("found") == "new" for result in kills)
        world.say(f"{met} of {len(kills)} kills met a living worker; {new} came after the commit")
    looks = sum(result.get("looks", 0) for result in world.results)
    if looks:
        world.say(f"readers looked {looks} times")
    points = sweeps.declared_points()
    never = sorted(set(points) - world.ever_seen())
    world.say(f"{len(points)} failpoints declared, {len(points) - len(never)} reached")
    if never:
        world.say(f"never reached: {', '.join(never)}")
    wrong = sum(bool(result["wrong"]) for result in world.results if not result["plant"])
    world.say(f"{sum(cell[0] for cell in table.values())} trials, {wrong} wrong")
    return wrong




def number_or_all(text):
    return 0 if text == "all" else int(text)


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--proxy")
    parser.add_argument("--tds")
    parser.add_argument("--servers", required=True)
    parser.add_argument("--seed", type=int, default=20261121)
    for name in (*SIZES, "stack"):
        parser.add_argument(f"--{name}", type=int, default=0)
    for name in ("failpoints", "nth", "network"):
        parser.add_argument(f"--{name}", type=number_or_all)
    parser.add_argument("--bugs")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--targets")
    parser.add_argument("--sources")
    parser.add_argument("--only")
    parser.add_argument("--rows", type=int, default=9600)
    parser.add_argument("--result")
    return parser.parse_args()


def campaign(world, arguments):
    for target in list(world.targets):
        begun = time.monotonic()
        try:
            trials.plain(world, target, world.seed)
        except Wrong as error:
            world.note("plain", 0, target.name, begun, {"check": error.check, "why": error.why}, {})
            world.targets.remove(target)
    world.say("plain: " + ", ".join(f"{name} ({shape})" for name, shape in world.shapes.items()))
    for option, (kind, fits) in SIZES.items():
        count = getattr(arguments, option.replace("-", "_"))
        of_kind(world, kind, count, [target for target in world.targets if fits(target)])
    if arguments.failpoints is not None:
        sweeps.failpoints(world, arguments.failpoints)
    if arguments.nth is not None:
        sweeps.nth(world, arguments.nth)
    if arguments.network is not None:
        network.run(world, arguments.network)
    if arguments.stack:
        stack.run(world, arguments.stack)


def main():
    # Whoever ends it must not leave its servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = parsed()
    with open(arguments.program, "rb") as file:
        if b"DMG_FAILPOINTS_SEEN" not in file.read():
            print("SKIPPED: the executable has no failpoints; build it with --features dmg/failpoints")
            return 3
    world = World(arguments)
    try:
        if arguments.only:
            again(world, arguments.only)
            return int(bool(world.results[-1]["wrong"]))
        campaign(world, arguments)
        missed = bugs.run(world, arguments.bugs) if arguments.bugs else []
        wrong = summary(world)
        return 1 if wrong or missed else 0
    finally:
        world.close()


if __name__ == "__main__":
    sys.exit(main())
