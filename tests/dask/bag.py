"""What Dask's Bag makes of the inputs that come in as JSON: results partition by partition, or errors, as JSON."""

import json
import operator
import os
import sys
import warnings

import dask
import dask.bag as db
from dask import delayed
from dask.bag import random

dask.config.set(scheduler="sync")


def made(bag):
    return {"partitions": [list(part) for part in dask.compute(*bag.to_delayed())]}


def value(item):
    return {"value": item.compute()}


def shape(bag, split_every):
    """How a reduction is put together: which partitions, in which tree."""
    return bag.reduction(
        lambda part: f"p{len(list(part))}", lambda parts: "(" + " ".join(parts) + ")", split_every=split_every
    )


def take(bag, k, npartitions):
    return {"value": list(bag.take(k, npartitions=npartitions, warn=False))}


def warns(bag, k, npartitions):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bag.take(k, npartitions=npartitions)
    return {"value": len(caught) > 0}


def groups(bag):
    return {"value": sorted(bag.compute())}


def sizes(bag):
    return {"value": [len(list(part)) for part in dask.compute(*bag.to_delayed())]}


add = operator.add
step = lambda total, x: (3 * total + x) % 1009
append = lambda so_far, x: so_far + [x]
named = lambda x: {"n": x} if x % 2 else {}

NUMBERS = {
    "map": lambda b: made(b.map(lambda x: 2 * x + 1)),
    "map_with value": lambda b: made(b.map(add, 10)),
    "map_with lazy": lambda b: made(b.map(add, b.count())),
    "filter": lambda b: made(b.filter(lambda x: x % 2 == 0)),
    "remove": lambda b: made(b.remove(lambda x: x % 2 == 0)),
    "flat_map": lambda b: made(b.map(lambda x: list(range(x % 3))).flatten()),
    "flatten": lambda b: made(b.map(lambda x: [x, -x]).flatten()),
    "starmap": lambda b: made(b.map(lambda x: (x, x + 1)).starmap(operator.mul)),
    "map_partitions": lambda b: made(b.map_partitions(lambda part: [sum(part), 7])),
    "map_partitions_with": lambda b: made(b.map_partitions(lambda part, n: [x * n for x in part], 3)),
    "pluck": lambda b: made(b.map(lambda x: {"n": x}).pluck("n")),
    "pluck missing": lambda b: made(b.map(named).pluck("n")),
    "pluck_or": lambda b: made(b.map(named).pluck("n", -1)),
    "pluck place": lambda b: made(b.map(lambda x: [x, 10 * x]).pluck(1)),
    "unzip": lambda b: made(b.map(lambda x: (x, -x)).unzip(2)[1]),
    "zip": lambda b: made(db.zip(b, b.map(lambda x: -x))),
    "zip uneven": lambda b: made(db.zip(b, b.filter(lambda x: x % 2 == 0))),
    "zip_all": lambda b: made(db.zip(b, b.map(lambda x: -x), b).map(list)),
    "zip_all uneven": lambda b: made(db.zip(b, b, b.filter(lambda x: x % 2 == 0)).map(list)),
    "map2": lambda b: made(b.map(lambda x, y: 2 * x - y, b.map(lambda x: 3 * x))),
    "map2 uneven": lambda b: made(b.map(add, b.filter(lambda x: x % 2 == 0))),
    "map2 partitions": lambda b: made(b.map(add, db.concat([b, b]))),
    "map3": lambda b: made(b.map(lambda x, y, z: [x, y, z], b.map(lambda x: -x), b.map(lambda x: 2 * x))),
    "sample": lambda b: {"value": sorted(random.sample(b, len(list(b))))},
    "sample too_many": lambda b: {"value": list(random.sample(b, len(list(b)) + 1))},
    "choices": lambda b: {"value": sorted(set(random.choices(b.map(lambda x: 7), 5)))},
    "concat": lambda b: made(db.concat([b, b.map(lambda x: -x), b])),
    "product": lambda b: made(b.product(b.filter(lambda x: x > 3))),
    "join": lambda b: made(b.join([0, 11, 1, 12, 4, 5], lambda x: x % 3, lambda y: y % 10)),
    "accumulate": lambda b: made(b.accumulate(step)),
    "accumulate_from": lambda b: made(b.accumulate(step, initial=-1)),
    "repartition 1": lambda b: made(b.repartition(1)),
    "repartition 2": lambda b: made(b.repartition(2)),
    "repartition 3": lambda b: made(b.repartition(3)),
    "repartition 7": lambda b: made(b.repartition(7)),
    "repartition 40": lambda b: made(b.repartition(40)),
    "repartition_by_size": lambda b: made(b.repartition(partition_size=200)),
    "random_sample none": lambda b: made(b.random_sample(0, 1)),
    "random_sample all": lambda b: made(b.random_sample(1, 1)),
    "random_sample wrong": lambda b: made(b.random_sample(1.5, 1)),
    "count": lambda b: value(b.count()),
    "sum": lambda b: value(b.sum()),
    "min": lambda b: value(b.min()),
    "max": lambda b: value(b.max()),
    "mean": lambda b: value(b.mean()),
    "var 0": lambda b: value(b.var()),
    "var 1": lambda b: value(b.var(ddof=1)),
    "std 0": lambda b: value(b.std()),
    "std 1": lambda b: value(b.std(ddof=1)),
    "any": lambda b: value(b.map(lambda x: x > 4).any()),
    "all": lambda b: value(b.map(lambda x: x > 0).all()),
    "topk 3": lambda b: made(b.topk(3)),
    "topk 100": lambda b: made(b.topk(100)),
    "topk_by_key ties": lambda b: made(b.topk(4, key=lambda x: x % 4)),
    "topk_by_key split 2": lambda b: made(b.topk(4, key=lambda x: x % 4, split_every=2)),
    "frequencies": lambda b: made(b.frequencies()),
    "frequencies split 2": lambda b: made(b.frequencies(split_every=2)),
    "frequencies sorted": lambda b: made(b.frequencies(sort=True)),
    "distinct": lambda b: made(b.distinct()),
    "distinct_by_key": lambda b: made(b.distinct(key=lambda x: x % 3)),
    "fold": lambda b: value(b.fold(add, add, initial=0)),
    "fold initial 5": lambda b: value(b.fold(add, add, initial=5)),
    "fold list": lambda b: value(b.fold(append, add, initial=[])),
    "fold list split 2": lambda b: value(b.fold(append, add, initial=[], split_every=2)),
    "reduce": lambda b: value(b.fold(lambda a, b: a + b)),
    "reduction": lambda b: value(shape(b, None)),
    "reduction split 2": lambda b: value(shape(b, 2)),
    "reduction split 3": lambda b: value(shape(b, 3)),
    "foldby": lambda b: made(b.foldby(lambda x: x % 3, add, 5, add)),
    "foldby list": lambda b: made(b.foldby(lambda x: x % 3, append, [], add)),
    "foldby list split 2": lambda b: made(b.foldby(lambda x: x % 3, append, [], add, split_every=2)),
    "groupby": lambda b: groups(b.groupby(lambda x: x % 3, shuffle="tasks")),
    "take 2": lambda b: take(b, 2, 1),
    "take 0": lambda b: take(b, 0, 1),
    "take 3 of 2": lambda b: take(b, 3, 2),
    "take 5 of all": lambda b: take(b, 5, -1),
    "take 2 warns": lambda b: warns(b, 2, 1),
    "take 5 of all warns": lambda b: warns(b, 5, -1),
}

WORDS = {
    "map": lambda b: made(b.str.upper()),
    "flat_map": lambda b: made(b.map(list).flatten()),
    "join": lambda b: made(b.join(["apple", "bread", "avocado"], lambda w: w[:1])),
    "min": lambda b: value(b.min()),
    "max": lambda b: value(b.max()),
    "topk_by_key": lambda b: made(b.topk(4, key=len)),
    "frequencies": lambda b: made(b.frequencies()),
    "distinct": lambda b: made(b.distinct()),
    "distinct_by_key": lambda b: made(b.distinct(key=len)),
    "fold": lambda b: value(b.fold(add, add, initial="")),
    "accumulate": lambda b: made(b.accumulate(add)),
    "accumulate_from": lambda b: made(b.accumulate(add, initial="-")),
    "foldby": lambda b: made(b.foldby(lambda w: w[:1], add, "", add)),
    "foldby_ref": lambda b: made(b.foldby(lambda w: w[:1], lambda n, _: n + 1, 0, add)),
    "groupby": lambda b: groups(b.groupby(len, shuffle="tasks")),
}


def outcome(run, *args, **kwargs):
    try:
        return run(*args, **kwargs)
    except Exception as error:
        return {"error": type(error).__name__}


def bag_of(partitions):
    return db.from_delayed([delayed(list)(part) for part in partitions])


def write(folder, name, lines, **how):
    db.from_delayed([delayed(list)(part) for part in lines]).to_textfiles(os.path.join(folder, name), **how)
    written = {}
    for file in sorted(os.listdir(folder)):
        with open(os.path.join(folder, file)) as text:
            written[file] = text.read()
    return {"value": written}


def main(asked):
    pattern, folder = asked["pattern"], asked["folder"]
    text = [["one", "two"], [], ["three"]]
    letters = lambda i: "abc"[i]
    return {
        "numbers": {
            name: {op: outcome(run, bag_of(parts)) for op, run in NUMBERS.items()}
            for name, parts in asked["numbers"].items()
        },
        "words": {
            name: {op: outcome(run, bag_of(parts)) for op, run in WORDS.items()}
            for name, parts in asked["words"].items()
        },
        "sequences": [outcome(lambda: sizes(db.from_sequence(range(n), npartitions=k))) for n, k in asked["sequences"]],
        "ranges": [outcome(lambda: sizes(db.range(n, npartitions=k))) for n, k in asked["ranges"]],
        "files": {
            "read_text": made(db.read_text(pattern)),
            "read_text files_per_partition": made(db.read_text(pattern, files_per_partition=2)),
            "read_text blocksize": made(db.read_text(pattern, blocksize=7)),
            "read_text delimiter": made(db.read_text(pattern, linedelimiter=" ")),
            "read_text_with_path": made(db.read_text(pattern, include_path=True).map(list)),
            "read_text none": outcome(lambda: made(db.read_text(pattern + ".not-there"))),
            "write_text": outcome(write, os.path.join(folder, "a"), "", text),
            "write_text names": outcome(write, os.path.join(folder, "b"), "*.txt", text, name_function=letters),
            "write_text ends": outcome(write, os.path.join(folder, "c"), "*.txt", text, last_endline=True),
        },
    }


json.dump(main(json.load(sys.stdin)), sys.stdout)
