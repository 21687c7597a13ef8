"""A bad network between worker and store: every fault against every store, as source and as sink. The copy ends with
the right content, or with one clear fault and the old content whole, and always within a stated time."""

import random
import time

from proxy import Proxies
from trials import Trial, Wrong

# A trial ends within this. The longest wait that the product names is 60 s, for a lock at the commit.
DEADLINE = 120
# So long a stalled connection stays open: a peer that is there and says nothing, such as a server that sorts, is waited
# for; a peer that has gone is noticed by the system within 30 s (crates/connector/src/session.rs).
STALL = 3
FAULTS = {
    "cut": "cut way={way} seed={seed} within={bytes}",
    "reset": "reset way={way} seed={seed} within={bytes}",
    "stall": "halfopen way={way} seed={seed} within={bytes}",
    "truncate": "truncate seed={seed} within={bytes}",
    "corrupt": "corrupt way={way} seed={seed} within={bytes}",
    "delay": "delay way={way} ms=30 times=0",
    "throttle": "throttle way={way} rate=1500000 times=0",
    "refused": "cut way=up after=0 skip={skip}",
    "always-cut": "cut way={way} seed={seed} within={bytes} times=0",
}
HTTP = {
    "busy-429": "http status=429 retry=1 times=2 after={skip}",
    "busy-503": "http status=503 retry=1 times=2 after={skip}",
    "always-503": "http status=503 retry=1 times=0",
}
HARMLESS = ("delay", "throttle")
PORTS = {"postgres": lambda world: world.postgres.port, "blob": lambda world: world.azurite.port}
PORTS["mariadb"] = lambda world: world.mariadb.port


def cases(world):
    found = []
    sinks = {}
    for target in world.targets:
        family = target.name.split("-")[0]
        if family in PORTS:
            sinks.setdefault(family, []).append(target)
    for family, those in sinks.items():
        for name in [*FAULTS, *(HTTP if family == "blob" else ())]:
            for way in ("up", "down"):
                found += [(name, way, "sink", target) for target in those[:2]]
    for name in FAULTS:
        for way in ("up", "down"):
            # A byte turned on the way from a source without TLS arrives as another value; nobody can know.
            if name != "corrupt":
                found.append((name, way, "source", world.targets[0]))
                found.append((name, way, "source", world.targets[len(world.targets) // 2]))
    return found


def one(world, trial, case):
    name, way, side, target = case
    family = "postgres" if side == "source" else target.name.split("-")[0]
    label = f"{family}-{side}"
    if label not in world.ports:
        world.ports[label] = world.proxies.listen(label, PORTS[family](world))
    ports = (world.ports[label], None) if side == "source" else (None, world.ports[label])
    target.prepare()
    # How much passes without a fault says where one may be placed.
    world.proxies.set(label, "none")
    before = world.sizes.get((label, target.name))
    if before is None:
        worker = trial.worker(ports=ports)
        if trial.last_word(worker)["say"] != "finished":
            raise Wrong("plain", f"through the proxy: {worker.fault}")
        _, _, up, down = world.proxies.seen(label)
        before = world.sizes[label, target.name] = (up, down)
        target.prepare()
        trial.run = trial.run[::-1].replace("-", "")[:8] + trial.run[8:]
        trial.epoch = 0
    template = {**FAULTS, **HTTP}[name]
    fault = template.format(
        way=way,
        seed=trial.chance.getrandbits(40),
        bytes=max(before[way == "down"] // 2, 1),
        skip=trial.chance.randrange(3),
    )
    trial.notes.update(fault_order=fault, way=way, side=side)
    world.proxies.set(label, fault)
    begun = time.monotonic()
    worker = trial.worker(ports=ports)
    if name == "stall":
        while world.proxies.seen(label)[1] == 0 and not worker.find("finished", "failed", "gone"):
            time.sleep(0.02)
        time.sleep(STALL)
        struck = world.proxies.seen(label)[1]
        world.proxies.set(label, "none")
    last = worker.end(DEADLINE)
    trial.notes["took"] = round(time.monotonic() - begun, 1)
    trial.notes["struck"] = struck if name == "stall" else world.proxies.seen(label)[1]
    world.proxies.set(label, "none")
    if last is None:
        worker.kill()
        raise Wrong("no-hang", f"{fault}: no word for {DEADLINE} s; the last was {worker.said[-1:]}")
    trial.notes["first"] = last["say"]
    if last["say"] == "gone":
        raise Wrong("clear-fault", f"{fault}: the worker ended without a word")
    found = trial.old_or_new()
    if last["say"] == "finished":
        if found != "new":
            raise Wrong("acknowledged", f"{fault}: it said it had finished, and the target is as before")
        trial.is_new()
        return
    trial.clear_fault(last["fault"])
    if name in HARMLESS:
        raise Wrong("harmless", f"{fault}: a slow network ended the copy: {last['fault']}")
    unknown = last["fault"].get("context", {}).get("outcome") == "unknown"
    if found == "new" and not unknown:
        raise Wrong("fault-means-old", f"{fault}: {last['fault']['code']}, and the target has the new content")
    trial.converges(plan=worker.plan, ports=ports)


def start(world):
    world.proxies = Proxies(world.proxy_program)
    world.ports, world.sizes = {}, {}


def run(world, count):
    if not world.proxy_program:
        world.say("no fault proxy given")
        return
    start(world)
    everything = cases(world)
    random.Random(f"{world.seed}/network").shuffle(everything)
    for case in everything[: count or None]:
        if world.late():
            break
        name, way, side, target = case
        trial = Trial(world, "network", f"{name}.{way}.{side}", target, world.seed)
        world.attempt(trial, lambda trial=trial, case=case: one(world, trial, case))
    world.proxies.close()


def again(world, trial, number):
    start(world)
    name, way, side = number.split(".")
    world.attempt(trial, lambda: one(world, trial, (name, way, side, trial.target)))


