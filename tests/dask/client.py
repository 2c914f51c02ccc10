"""What a client of Dask's does with the futures of `10 // x`, and in which order it runs bound tasks, as JSON."""

import json
import logging
import sys
import threading
import time
import traceback

import dask
import dask.bag as db
from dask import delayed
from dask.graph_manipulation import bind, checkpoint, clone, wait_on
from distributed import Client, as_completed, fire_and_forget, wait

# What tasks have in common: the worker is in this process.
go, noted = threading.Event(), []


def tenth(x):
    return 10 // x


def collatz(n):
    return n // 2 if n % 2 == 0 else 3 * n + 1


def block():
    return go.wait(30)


def note(what):
    noted.append(what)


def futures(client, numbers):
    return [client.submit(tenth, x, pure=False) for x in numbers]


def outcome(run):
    try:
        return {"value": run()}
    except Exception as error:
        return {"error": type(error).__name__}


def walk(client, first):
    completed = as_completed([client.submit(collatz, first, pure=False)])
    steps = []
    for future in completed:
        steps.append(future.result())
        if steps[-1] != 1:
            completed.add(client.submit(collatz, future, pure=False))
    return steps


def batches(client, numbers):
    done = futures(client, numbers)
    wait(done)
    completed = as_completed(done)
    count = completed.count()
    sizes = [len(list(batch)) for batch in completed.batches()]
    return [count, sum(sizes), completed.count()]


def with_results(client, numbers):
    completed = as_completed(futures(client, numbers), with_results=True, raise_errors=False)
    results = [result for future, result in completed if future.status == "finished"]
    return sorted(results)


def called(client, numbers):
    done, calls, all_called = futures(client, numbers), [], threading.Event()

    def callback(future):
        calls.append(future.status)
        if len(calls) == len(numbers):
            all_called.set()

    for future in done:
        future.add_done_callback(callback)
    if numbers:
        all_called.wait(30)
    return sorted(calls)


def tracebacks(client, numbers):
    """Whether the function is named where it failed; nothing of those that did not."""
    traces = [future.traceback() for future in futures(client, numbers)]
    return [trace and any("tenth" in line for line in traceback.format_tb(trace)) for trace in traces]


def late(client):
    """What waits with a time limit for a task that takes longer."""
    go.clear()
    future = client.submit(block, pure=False)
    completed = as_completed([future], timeout=0.05)
    answers = {
        "exception": outcome(lambda: future.exception(timeout=0.05)),
        "next": outcome(lambda: next(completed)),
        "left": completed.count(),
    }
    go.set()
    answers["exception later"] = outcome(lambda: future.exception(timeout=30))
    answers["next later"] = next(as_completed([future], timeout=30)).result()
    return answers


def detached(client, threads):
    """Which tasks run without a handle."""
    go.clear()
    noted.clear()
    before = [client.submit(block, pure=False) for _ in range(threads)]
    future = client.submit(note, "dropped", pure=False)
    key = future.key
    while key not in client.cluster.scheduler.tasks:
        time.sleep(0.01)
    del future
    worker = client.cluster.workers[0]
    while key in client.cluster.scheduler.tasks or key in worker.state.tasks:
        time.sleep(0.01)
    fire_and_forget(client.submit(note, "detached", pure=False))
    go.set()
    client.gather(before)
    while not noted:
        time.sleep(0.01)
    client.submit(tenth, 1, pure=False).result()
    return list(noted)


def on_client(client, numbers):
    return {
        "gather": outcome(lambda: client.gather(futures(client, numbers))),
        "gather skip": outcome(lambda: client.gather(futures(client, numbers), errors="skip")),
        "failed": outcome(lambda: [future.exception() is not None for future in futures(client, numbers)]),
        "failed in time": outcome(lambda: [future.exception(timeout=30) is not None for future in futures(client, numbers)]),
        "batches": outcome(lambda: batches(client, numbers)),
        "with_results": outcome(lambda: with_results(client, numbers)),
        "called": outcome(lambda: called(client, numbers)),
        "walk": outcome(lambda: walk(client, 6)),
    }


def order():
    dask.config.set(scheduler="sync")
    notes = []

    def noted(name):
        notes.append(name)
        return name

    def ran(what, *more):
        notes.clear()
        value = dask.compute(what, *more)[0]
        return {"value": value, "notes": list(notes)}

    step = lambda name: delayed(noted)(name)
    a, b = step("a"), step("b")
    bag = db.from_sequence(range(4), npartitions=2).map(noted)
    longer = delayed(lambda text: text + "!")(a)
    return {
        "bind": ran(bind(a, b)),
        "bind to itself": ran(bind(a, longer)),
        "bind bag": ran(bind(bag, b)),
        "checkpoint": ran(checkpoint(bag, a)),
        "wait_on": ran(wait_on(bag)),
        "clone": ran(clone(a), a),
    }


def main():
    asked = json.load(sys.stdin)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        answers = {
            "futures": [on_client(client, numbers) for numbers in asked["numbers"]],
            "tracebacks": [tracebacks(client, numbers) for numbers in asked["numbers"]],
            "late": late(client),
            "detached": detached(client, 2),
        }
    answers["order"] = order()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    # Functions of a module that has a name are found by that, and share its variables.
    import client

    client.main()
