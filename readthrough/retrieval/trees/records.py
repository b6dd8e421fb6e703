"""The tables of trees. Every function works in the caller's transaction.

Trees and summaries belong to a split (a document as one chunker split it), and go with it. Summaries are found by the
hash of what was asked, so that those of parts that did not change serve the next version of a document too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping

import numpy as np

from readthrough.retrieval.trees.base import Node, Summary, Tree

TABLES = (
    """CREATE TABLE summaries (
        split INTEGER NOT NULL REFERENCES splits ON DELETE CASCADE, recipe TEXT NOT NULL, key TEXT NOT NULL,
        text TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (split, recipe, key))""",
    # complete ones; `nodes` are pairs of a summary's key and the numbers of its children (see `trees.base.Tree`)
    """CREATE TABLE trees (
        split INTEGER NOT NULL REFERENCES splits ON DELETE CASCADE, recipe TEXT NOT NULL, nodes TEXT NOT NULL,
        PRIMARY KEY (split, recipe)) WITHOUT ROWID""",
)

_VECTOR = np.dtype("<f4")


def add(connection: sqlite3.Connection, split: int, recipe: str, made: Iterable[Summary]) -> None:
    """Keep summaries of a split; of one that is gone they are passed over."""
    connection.executemany(
        """INSERT OR REPLACE INTO summaries (split, recipe, key, text, vector)
        SELECT key, ?2, ?3, ?4, ?5 FROM splits WHERE key = ?1""",
        ((split, recipe, each.key, each.text, each.vector.astype(_VECTOR).tobytes()) for each in made),
    )


def load(connection: sqlite3.Connection, split: int, recipe: str) -> dict[str, Summary]:
    """The summaries of a split by their keys."""
    select = "SELECT key, text, vector FROM summaries WHERE split = ? AND recipe = ?"
    return {
        key: Summary(key, text, np.frombuffer(vector, _VECTOR))
        for key, text, vector in connection.execute(select, (split, recipe))
    }


def finish(connection: sqlite3.Connection, split: int, recipe: str, tree: Tree) -> None:
    """Keep a complete tree, and of its split's summaries those that it holds."""
    nodes = json.dumps([[node.summary.key, node.children] for node in tree.nodes], separators=(",", ":"))
    connection.execute(
        "INSERT OR REPLACE INTO trees (split, recipe, nodes) SELECT key, ?2, ?3 FROM splits WHERE key = ?1",
        (split, recipe, nodes),
    )
    held = json.dumps([node.summary.key for node in tree.nodes])
    connection.execute(
        """DELETE FROM summaries WHERE split = ? AND recipe = ?
        AND key NOT IN (SELECT value FROM json_each(?))""",
        (split, recipe, held),
    )


def complete(connection: sqlite3.Connection, recipe: str, leaves: Mapping[int, int]) -> dict[int, Tree]:
    """The complete trees of splits; `leaves` says how many chunks each has."""
    select = "SELECT split, nodes FROM trees WHERE recipe = ? AND split IN (SELECT value FROM json_each(?))"
    found: dict[int, Tree] = {}
    for split, nodes in connection.execute(select, (recipe, json.dumps(list(leaves)))).fetchall():
        known = load(connection, split, recipe)
        listed = json.loads(nodes)
        if all(key in known for key, _ in listed):
            made = tuple(Node(known[key], tuple(children)) for key, children in listed)
            found[split] = Tree(leaves[split], made)
    return found


def hand_over(connection: sqlite3.Connection, before: int, after: int) -> None:
    """Give the summaries of the document row `before` to `after`, its next version, split by split."""
    connection.execute(
        """INSERT OR IGNORE INTO summaries (split, recipe, key, text, vector)
        SELECT newer.key, recipe, summaries.key, text, vector FROM summaries
        JOIN splits AS older ON older.key = summaries.split
        JOIN splits AS newer ON newer.chunker = older.chunker WHERE older.document = ? AND newer.document = ?""",
        (before, after),
    )
