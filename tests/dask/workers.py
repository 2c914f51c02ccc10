"""What a client of Dask's has its workers run, what they hold, and what options of a compute come to, as JSON."""

import json
import logging
import sys
import threading
import time

import dask
import dask.bag
from dask import delayed
from distributed import Client, get_worker, wait

# What tasks have in common: workers are threads here.
runs, running, notes = {}, [], []
lock = threading.Lock()
began, go = threading.Event(), threading.Event()


def note(what):
    notes.append(what)


def outcome(run):
    try:
        return {"value": run()}
    except Exception:
        return "error"


def tenth(dask_worker):
    return 10 // dask_worker.name


def leave(dask_worker):
    dask_worker.left = 7


def find(dask_worker):
    return dask_worker.left


def make(n, fails):
    if fails:
        raise ValueError("it fails")
    return b"x" * n


def on_workers(client, addresses):
    """Results by worker; of an error, only that there is one."""

    def run(function, **options):
        results = client.run(function, on_error="return", **options)
        each = [results[address] for address in addresses if address in results]
        return ["error" if isinstance(result, Exception) else result for result in each]

    client.run(leave)
    return {
        "all": run(lambda: 42),
        "some fail": run(tenth),
        "left": run(find),
        "named": [run(find, workers=[address]) for address in addresses],
        "twice": run(find, workers=[addresses[-1]] * 2),
        "afterwards": client.submit(lambda: 1).result(),
    }


def named(client, addresses):
    return {
        "none": len(client.run(lambda: 1, workers=[])),
        "unknown": outcome(lambda: client.run(lambda: 1, workers=[addresses[0], "nobody"])),
    }


def holdings(client, addresses, placed):
    """Which of the results is where, and how many thousands of bytes the results of each name take."""
    place = lambda worker: addresses[worker % len(addresses)]
    futures = [
        client.submit(make, n, fails, key=f"{name}-{i}", workers=[place(worker)])
        for i, (name, n, worker, fails) in enumerate(placed)
    ]
    wait(futures)

    def held():
        has = client.has_what()
        places = client.who_has(futures)
        return {
            "who_has": [[addresses.index(worker) for worker in places[future.key]] for future in futures],
            "has_what": [sorted(int(key.split("-")[1]) for key in has[address]) for address in addresses],
            "nbytes": {name: nbytes // 1000 for name, nbytes in client.nbytes().items()},
        }

    before = held()
    gone = futures.pop(0).key
    while any(gone in keys for keys in client.has_what().values()):
        time.sleep(0.01)
    return {"before": before, "after": held()}


def gpu(n):
    with lock:
        running.append(n)
        now = len(running)
    time.sleep(0.05)
    with lock:
        running.remove(n)
    return now


def most_at_once(amount, need):
    with Client(
        processes=False, n_workers=1, threads_per_worker=4, resources={"gpu": amount}, dashboard_address=None
    ) as client:
        futures = [client.submit(gpu, n, pure=False, resources={"gpu": need} if need else None) for n in range(8)]
        results = client.gather(futures)
        return {"most": max(results), "runs": len(results)}


def sometimes(name, fails):
    runs[name] = runs.get(name, 0) + 1
    if runs[name] <= fails:
        raise ValueError("not yet")
    return fails


def retried(client, fails, retries):
    name = f"{fails}-{retries}"
    run = lambda: client.compute(delayed(sometimes)(name, fails), retries=retries).result()
    return {"outcome": outcome(run), "runs": runs[name]}


def where():
    time.sleep(0.01)
    return get_worker().name


def more(x):
    return x + 1


def places(client, addresses, allowed):
    """On which workers the tasks of a graph run that these may run."""
    tasks = [delayed(where)() for _ in range(8)]
    futures = client.compute(tasks, workers=[addresses[place] for place in allowed])
    return sorted(set(client.gather(futures)))


def steps(client):
    """What a graph comes to with optimisation and without, and whether it is more tasks then."""

    def run(first, optimize_graph):
        log = client.cluster.scheduler.transition_log
        runs = lambda: sum(1 for _, start, finish, *_ in log if (start, finish) == ("processing", "memory"))
        before = runs()
        bag = dask.bag.from_sequence(range(first, first + 4), npartitions=2).map(more).map(more)
        value = client.compute(bag, optimize_graph=optimize_graph).result()
        return value, runs() - before

    (together, few), (apart, many) = run(0, True), run(10, False)
    return {"together": together, "apart": apart, "more tasks apart": many > few}


def block():
    began.set()
    return go.wait(30)


def order(priorities):
    """In which order graphs of these priorities run that all wait for one thread."""
    for thing in (began, go, notes):
        thing.clear()
    with dask.config.set({"distributed.scheduler.worker-saturation": "inf"}):
        with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
            first = client.submit(block)
            began.wait(30)
            futures = [client.compute(delayed(note)(priority), priority=priority) for priority in priorities]
            worker = client.cluster.workers[0]
            while len(worker.state.tasks) < 1 + len(priorities):
                time.sleep(0.01)
            go.set()
            client.gather([first, *futures])
    return list(notes)


def on(n, asked):
    with Client(processes=False, n_workers=n, threads_per_worker=1, dashboard_address=None) as client:
        workers = client.cluster.workers
        addresses = [workers[name].address for name in sorted(workers)]
        answers = {
            "on workers": on_workers(client, addresses),
            "holdings": holdings(client, addresses, asked["placed"]),
        }
        if n == 1:
            answers["retries"] = [retried(client, *each) for each in asked["retries"]]
        else:
            answers["named"] = named(client, addresses)
            answers["places"] = [places(client, addresses, allowed) for allowed in asked["places"]]
        answers["steps"] = steps(client)
        return answers


def main():
    asked = json.load(sys.stdin)
    for name in ("distributed", "distributed.worker", "distributed.scheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    answers = {
        "one": on(1, asked),
        "two": on(2, asked),
        "resources": [most_at_once(*each) for each in asked["resources"]],
        "priorities": [order(priorities) for priorities in asked["priorities"]],
    }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    # Functions of a module that has a name are found by that, and share its variables.
    import workers

    workers.main()
