"""A source that changes while it is read: each change is one transaction over all its rows, so what arrives must be one
state of it, whole, in however many parts it was read."""

import threading
import time

import judge
import rows
from trials import Wrong

# Sources whose readers see one moment of the whole, and the statement that moves all rows by one.
MOVERS = {
    "postgres": "UPDATE src_moving SET batch = batch + 1",
    "mariadb": "UPDATE src_moving SET batch = batch + 1",
    "sqlserver": "UPDATE src_moving SET batch = batch + 1",
}


def moving(trial):
    """Somebody changes all rows again and again while they are copied."""
    world = trial.world
    families = [family for family in MOVERS if family in world.sources]
    family = trial.chance.choice(families)
    trial.source, trial.notes["source"] = world.sources[family], family
    those = [(number, 0, f"row {number}", None, None) for number in range(1, 3001)]
    store = getattr(world, family)
    if family not in world.moved:
        trial.source.make("moving", those)
        world.moved.add(family)
    trial.target.prepare()
    stop, moves = threading.Event(), []

    def move():
        while not stop.is_set():
            store.run(MOVERS[family])
            moves.append(time.monotonic())

    mover = threading.Thread(target=move)
    mover.start()
    try:
        last = trial.last_word(trial.worker("moving"))
    finally:
        stop.set()
        mover.join()
    trial.notes["moves"] = len(moves)
    if last["say"] != "finished":
        raise Wrong("converges", f"a source that moves ended the copy: {last}")
    content = trial.target.content()
    batches = {row[1] for row in content.rows if row[0] > 0}
    if len(batches) != 1:
        raise Wrong("one-moment", f"rows of {len(batches)} states of the source arrived: {sorted(batches)[:5]}")
    state = batches.pop()
    arrived = [(row[0], state, *row[2:]) for row in those]
    if content != judge.Content(rows.wanted(trial.target.mode, arrived, trial.target.before() or [])):
        raise Wrong("content", "not all rows of that state are there, once")


KINDS = {"moving": moving}
