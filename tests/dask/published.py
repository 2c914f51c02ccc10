"""Runs steps on Dask's published datasets, and prints what each gives."""

import json
import logging
import sys

from distributed import Client


def step(client, call, name, value):
    """What a call gives; of an error only that there is one."""
    try:
        if call == "publish":
            client.publish_dataset(client.submit(lambda x: x, value, pure=False), name=name)
            return True
        if call == "publish_failed":
            client.publish_dataset(client.submit(lambda x: x // 0, value, pure=False), name=name)
            return True
        if call == "published":
            return client.get_dataset(name).result()
        if call == "unpublish":
            client.unpublish_dataset(name)
            return True
        if call == "list":
            return sorted(client.list_datasets())
    except Exception:
        return "error"
    raise ValueError(call)


def main():
    logging.disable(logging.CRITICAL)
    programs = json.load(sys.stdin)["programs"]
    results = []
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client:
        for program in programs:
            for name in client.list_datasets():
                client.unpublish_dataset(name)
            results.append([step(client, call, name, value) for call, name, value in program])
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
