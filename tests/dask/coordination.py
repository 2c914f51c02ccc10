"""Runs steps on Dask's Lock, Semaphore, Event, Queue and Variable, and tasks that share them; prints what each gives."""

import json
import logging
import sys
import time

import distributed
from distributed import Client, Event, Lock, Queue, Semaphore, Variable


def make(kind, name, limit):
    if kind == "lock":
        return Lock(name)
    if kind == "semaphore":
        return Semaphore(max_leases=limit, name=name)
    if kind == "event":
        return Event(name)
    if kind == "queue":
        return Queue(name, maxsize=limit)
    return Variable(name)


def step(thing, call, value):
    """What a call gives, in words that both have: nothing that can be had at once is `None`."""
    try:
        if call in ("acquire", "try_acquire"):
            return bool(thing.acquire(timeout=0.2) if call == "acquire" else thing.acquire(timeout=0.05))
        if call == "release":
            thing.release()
            return True
        if call == "set":
            return thing.set() if value is None else thing.set(value)
        if call == "clear":
            thing.clear()
            return None
        if call == "is_set":
            return bool(thing.is_set())
        if call == "wait":
            return bool(thing.wait(timeout=0.2))
        if call == "put":
            thing.put(value, timeout=0.2)
            return True
        if call == "get":
            return thing.get(timeout=0.2)
        if call == "len":
            return thing.qsize()
        if call == "delete":
            thing.delete()
            return True
    except (TimeoutError, distributed.TimeoutError):
        return "timeout"
    raise ValueError(call)


def in_a_task(kind, name, limit, call, value):
    return step(make(kind, name, limit), call, value)


def count(n, kind, name, limit):
    """What must not be done by two at a time: reads a number, and writes what is one more."""
    with make(kind, name, limit):
        number = Variable(f"{name} counted")
        before = number.get(timeout=30)
        time.sleep(0.005)
        number.set(before + 1)


def together(client, kind, limit, tasks):
    """What tasks count that have it for a time, and whether it is to be had afterwards."""
    name = f"{kind} of tasks"
    number = Variable(f"{name} counted")
    number.set(0)
    client.gather(client.map(count, range(tasks), kind=kind, name=name, limit=limit, pure=False))
    return {"counted": number.get(timeout=30), "free": make(kind, name, limit).acquire(timeout=0.2)}


def leave(name):
    return Lock(name).acquire()


def main():
    # Whoever waits too long is told; the scheduler need not say so, too.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    asked = json.load(sys.stdin)
    programs = asked["programs"]
    results = []
    with Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        for number, program in enumerate(programs):
            given, things = [], {}
            for kind, name, limit, call, value, where in program:
                own = f"{name}-{number}"
                if where == "task" and call not in ("acquire", "try_acquire", "release"):
                    given.append(client.submit(in_a_task, kind, own, limit, call, value, pure=False).result())
                    continue
                if (kind, own) not in things:
                    things[kind, own] = make(kind, own, limit)
                given.append(step(things[kind, own], call, value))
            results.append(given)
        answers = {
            "programs": results,
            "together": [together(client, *each) for each in asked["together"]],
            "left by a task": [client.submit(leave, "left").result(), Lock("left").acquire(timeout=0.2)],
        }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    # Functions of a module that has a name are found by that.
    import coordination

    coordination.main()
