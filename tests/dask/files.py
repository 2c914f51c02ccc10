"""What pandas makes of CSV files and Dask's Bag of text and JSON lines: rows or errors, as JSON."""

import json
import sys

import dask
import dask.bag as db
import pandas

dask.config.set(scheduler="sync")


def outcome(read, file, *how):
    try:
        return {"value": read(file, *how)}
    except Exception as error:
        return {"error": type(error).__name__}


def csv(file):
    return pandas.read_csv(file, dtype=str, keep_default_na=False).values.tolist()


def text(file, encoding, delimiter, blocksize):
    return list(db.read_text(file, encoding=encoding, linedelimiter=delimiter, blocksize=blocksize))


def lines(file):
    return list(db.read_text(file).map(json.loads))


asked = json.load(sys.stdin)
answers = {
    "csv": [outcome(csv, file) for file in asked["csv"]],
    "text": [outcome(text, *how) for how in asked["text"]],
    "lines": [outcome(lines, file) for file in asked["lines"]],
}
json.dump(answers, sys.stdout)
