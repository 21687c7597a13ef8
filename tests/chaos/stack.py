"""A whole installation: service, host and the workers it starts. Host and service are killed at random moments and at
every failpoint of theirs; the run must end well by itself."""

import json
import os
import random
import signal
import subprocess
import time

import servers
import files
from proxy import Proxies
from trials import Trial, Wrong

# From the request to the end, with a lease that runs out and a service that waits a lease period after its start.
RUN = 180


class Stack:
    def __init__(self, world):
        self.world = world
        self.folder = world.path("stack")
        os.makedirs(self.folder)
        self.port = servers.free_port()
        # Nodes reach the service through the proxy; the harness itself goes straight to it.
        self.proxies = Proxies(world.proxy_program) if world.proxy_program else None
        self.endpoint = f"127.0.0.1:{self.proxies.listen('channel', self.port) if self.proxies else self.port}"
        self.service = self.node = None
        self.start_service()
        self.dmg("factory", "create", "chaos", factory=False)
        key = find(self.dmg("gateway", "create", "onprem"), ("key", "Key"))
        with open(self.path("key"), "w", encoding="utf-8") as file:
            file.write(key)
        self.call("node", "register", "--key-file", self.path("key"), "--name", "node1", "--data", self.path("node"))
        self.start_node()
        self.until("the node to be online", 30, lambda: "Online" in json.dumps(self.dmg("gateway", "show", "onprem")))

    def path(self, name):
        return os.path.join(self.folder, name)

    def environment(self):
        own = {"DMG_LOG": "debug,hyper=info,rustls=info", "TMPDIR": self.world.path("tmp")}
        own.update(DMG_FAILPOINTS=self.world.points, DMG_FAILPOINTS_SEEN=self.world.path("seen"))
        return {**os.environ, **own}

    def spawn(self, name, *arguments):
        with open(self.path(f"{name}.log"), "ab") as log:
            return subprocess.Popen(
                [self.world.program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment()
            )

    def service_words(self):
        listen = ("--listen", f"127.0.0.1:{self.port}", "--public-endpoint", self.endpoint)
        return ("service", "run", "--data", self.path("service"), *listen)

    def start_service(self):
        self.service = self.spawn("service", *self.service_words())
        self.until("the service to listen", 30, self.listens)

    def listens(self):
        import socket

        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return os.path.exists(self.path("service/admin.token"))
        except OSError:
            return False

    def start_node(self):
        self.node = self.spawn("node", "node", "run", "--data", self.path("node"))

    def revive(self):
        """Starts again what has died, as a supervisor of the system would."""
        if self.service.poll() is not None:
            self.service = self.spawn("service", *self.service_words())
        if self.node.poll() is not None:
            self.start_node()

    def call(self, *arguments):
        environment = {name: value for name, value in self.environment().items() if not name.startswith("DMG_FAIL")}
        ran = subprocess.run(
            [self.world.program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
        if ran.returncode:
            raise RuntimeError(f"{arguments[:3]}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def dmg(self, *arguments, factory=True):
        own = ["--output", "json", "--service", f"https://127.0.0.1:{self.port}"]
        own += ["--token-file", self.path("service/admin.token"), "--ca", self.path("service/service.pem")]
        if factory:
            own += ["--factory", "chaos"]
        text = self.call(*arguments, *own)
        return json.loads(text) if text.strip() else {}

    def try_dmg(self, *arguments):
        try:
            return self.dmg(*arguments)
        except RuntimeError:
            return None

    def until(self, what, seconds, ask):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = ask()
            if answer:
                return answer
            time.sleep(0.05)
        raise Wrong("no-hang", f"waited {seconds} s for {what}")

    def put(self, noun, name, properties):
        path = self.path(f"{noun}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"name": name, "properties": properties}, file)
        self.dmg(noun, "put", path, "--name", name)
        os.remove(path)

    def documents(self, target):
        via = {"referenceName": "onprem", "type": "IntegrationRuntimeReference"}
        password = {"type": "SecureString", "value": self.world.postgres.password}
        server = {"server": "127.0.0.1", "port": self.world.postgres.port, "database": "dmg", "username": "dmg"}
        properties = {**server, "sslMode": 0, "password": password}
        self.put("linked-service", "pg", {"type": "PostgreSqlV2", "connectVia": via, "typeProperties": properties})

        def dataset(name, kind, service, properties):
            reference = {"referenceName": service, "type": "LinkedServiceReference"}
            self.put("dataset", name, {"type": kind, "linkedServiceName": reference, "typeProperties": properties})

        dataset("source", "PostgreSqlV2Table", "pg", {"schema": "public", "table": "src_a"})
        sink = {"type": "ParquetSink"}
        if isinstance(target, files.LocalFile):
            self.put("linked-service", "disk", {"type": "FileServer", "connectVia": via, "typeProperties": {"host": target.folder}})
            place = {"location": {"type": "FileServerLocation", "fileName": "target.parquet"}}
            dataset(target.name, "Parquet", "disk", place)
        else:
            dataset(target.name, "PostgreSqlV2Table", "pg", {"schema": "public", "table": target.table})
            sink = {"type": "AzurePostgreSQLSink"}
        copy = {
            "name": "copy",
            "type": "Copy",
            "inputs": [{"referenceName": "source", "type": "DatasetReference"}],
            "outputs": [{"referenceName": target.name, "type": "DatasetReference"}],
            "typeProperties": {"source": {"type": "PostgreSqlV2Source"}, "sink": sink},
        }
        self.put("pipeline", f"to-{target.name}", {"activities": [copy]})

    def run(self, target):
        started = self.until("the service to start a run", 60, lambda: self.try_dmg("pipeline", "run", f"to-{target.name}"))
        return find(started, ("runId",))

    def ended(self, run):
        shown = self.try_dmg("run", "show", run)
        self.revive()
        status = shown and shown.get("run", {}).get("status")
        return (status, shown) if status in ("Succeeded", "Failed", "Cancelled") else None

    def log_size(self, name="node"):
        try:
            return os.path.getsize(self.path(f"{name}.log"))
        except OSError:
            return 0

    def log_has(self, word, start, name="node"):
        with open(self.path(f"{name}.log"), "rb") as file:
            file.seek(start)
            return word in file.read()

    def processes(self):
        return [self.node.pid, *servers.children(self.node.pid)]

    def close(self):
        for process in (self.node, self.service):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        if self.proxies:
            self.proxies.close()


def find(document, names):
    if isinstance(document, dict):
        for name, value in document.items():
            if name in names and isinstance(value, str):
                return value
        document = list(document.values())
    if isinstance(document, list):
        for value in document:
            found = find(value, names)
            if found:
                return found
    return None


def settled(stack, trial, run, notes):
    """The run ends by itself and well; the target has the new content once."""
    status, shown = stack.until("the run to end", RUN, lambda: stack.ended(run))
    notes["status"] = status
    if status != "Succeeded":
        trial.old_or_new()
        raise Wrong("converges", f"the run ended {status}: {find(shown, ('message',))}")
    trial.is_new()


def kill(stack, trial, victim):
    """Kills host or service at a random moment of a run."""
    trial.target.prepare()
    start = stack.log_size()
    run = stack.run(trial.target)
    stage = trial.chance.choice((b'"plan"', b'"move"', b'"verify"', b'"commit"', b'"report"', b"job taken"))
    stack.until("the run to begin", 60, lambda: stack.log_has(b"job taken", start) or stack.ended(run))
    end = time.monotonic() + 20
    while time.monotonic() < end and not stack.log_has(stage, start) and not stack.log_has(b"job reported", start):
        time.sleep(0.002)
    time.sleep(trial.chance.random() * 0.05)
    victim_process = stack.node if victim == "host" else stack.service
    victim_process.kill()
    victim_process.wait()
    trial.notes.update(victim=victim, stage=stage.decode().strip('"'), found=trial.old_or_new(when="right after the kill"))
    stack.revive()
    settled(stack, trial, run, trial.notes)


def point(stack, trial, name, action):
    """A failpoint of host, service or state."""
    trial.target.prepare()
    # Armed when the run is ordered: an order whose answer is lost would be given twice, and done twice.
    run = stack.run(trial.target)
    fired = stack.world.arm(name, action, trial.chance.choice((1, 1, 2)))
    settled(stack, trial, run, trial.notes)
    trial.notes.update(point=name, action=action, reached=os.path.exists(fired))
    stack.world.disarm()
    stack.until("the service to be back", 60, lambda: stack.ended(run))


def send(process, number):
    try:
        os.kill(process, number)
    except ProcessLookupError:
        # The worker may have ended by itself meanwhile.
        pass


def lease(stack, trial):
    """Host and worker are frozen across the end of their lease, and thawed when another attempt may begin."""
    trial.target.prepare()
    start = stack.log_size()
    run = stack.run(trial.target)
    stage = trial.chance.choice((b'"move"', b'"verify"', b'"commit"'))
    end = time.monotonic() + 30
    while time.monotonic() < end and not stack.log_has(stage, start):
        time.sleep(0.001)
    frozen = stack.processes()
    for process in frozen:
        send(process, signal.SIGSTOP)
    trial.notes.update(stage=stage.decode().strip('"'), frozen=len(frozen))
    try:
        time.sleep(15 + trial.chance.random() * 8)
        trial.old_or_new(when="while frozen")
    finally:
        for process in frozen:
            send(process, signal.SIGCONT)
    settled(stack, trial, run, trial.notes)


CHANNEL = ("cut way=up", "cut way=down", "reset way=up", "reset way=down", "halfopen way=down", "corrupt way=up")
CHANNEL += ("corrupt way=down", "delay way=down ms=200", "throttle way=up rate=20000")


def channel(stack, trial, fault):
    """A bad network between host and service, for some connections or for some seconds."""
    trial.target.prepare()
    start = stack.log_size()
    times = trial.chance.choice((1, 3))
    order = f"{fault} times={times} seed={trial.chance.getrandbits(30)} within=6000"
    stack.proxies.set("channel", order)
    trial.notes["fault_order"] = order
    try:
        run = stack.run(trial.target)
        stack.until("the run to begin", 60, lambda: stack.log_has(b"job taken", start) or stack.ended(run))
        settled(stack, trial, run, trial.notes)
        trial.notes["struck"] = stack.proxies.seen("channel")[1]
    finally:
        stack.proxies.set("channel", "none")


def run(world, count):
    wanted = ("postgres-append", "file-replace", "postgres-overwrite")
    chosen = [target for target in world.targets if target.name in wanted[:2]]
    if not chosen:
        return
    world.disarm()
    stack = Stack(world)
    try:
        for target in chosen:
            stack.documents(target)
            trial = Trial(world, "stack-plain", 0, target, world.seed)
            world.attempt(trial, lambda trial: (trial.target.prepare(), settled(stack, trial, stack.run(trial.target), {})))
        plans = [("stack-kill", victim) for victim in ("host", "service")] * max(count // 4, 1)
        names = sorted(name for name in world.seen() if name.startswith(("host.", "service.", "state.")))
        plans += [("stack-point", (name, action)) for name in names for action in ("kill", "delay(1500)")]
        plans += [("stack-lease", None)] * max(count // 12, 1)
        if stack.proxies:
            plans += [("stack-channel", fault) for fault in CHANNEL]
        random.Random(f"{world.seed}/stack").shuffle(plans)
        for number, (kind, what) in enumerate(plans[:count]):
            if world.late():
                break
            trial = Trial(world, kind, number, chosen[number % len(chosen)], world.seed)
            work = {
                "stack-kill": lambda trial, what=what: kill(stack, trial, what),
                "stack-point": lambda trial, what=what: point(stack, trial, *what),
                "stack-lease": lambda trial, what=what: lease(stack, trial),
                "stack-channel": lambda trial, what=what: channel(stack, trial, what),
            }[kind]
            world.attempt(trial, work)
            world.disarm()
            stack.revive()
    finally:
        stack.close()
