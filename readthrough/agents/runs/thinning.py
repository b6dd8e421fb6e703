"""Savers of a run's checkpoints that let go of old ones, so that what a long run leaves does not grow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.sqlite import SqliteSaver

KEPT_STEPS = 100
"""How many checkpoints of a graph are kept: the last is enough to go on, the run log tells what was before."""

_FORGET = """DELETE FROM {table} WHERE thread_id = :thread AND checkpoint_ns = :graph AND checkpoint_id < (
    SELECT checkpoint_id FROM checkpoints WHERE thread_id = :thread AND checkpoint_ns = :graph
    ORDER BY checkpoint_id DESC LIMIT 1 OFFSET :kept - 1)"""


class Thinning(BaseCheckpointSaver[str], ABC):
    """Makes a saver keep the last `KEPT_STEPS` checkpoints of each graph of a run, and up to as many before them."""

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint; every hundredth time, delete those that nobody will go back to."""
        saved = super().put(config, checkpoint, metadata, new_versions)
        step = metadata.get("step", 0)
        if step > KEPT_STEPS and step % KEPT_STEPS == 0:
            where: dict[str, Any] = saved["configurable"]
            self.forget({"thread": where["thread_id"], "graph": where["checkpoint_ns"], "kept": KEPT_STEPS})
        return saved

    @abstractmethod
    def forget(self, names: Mapping[str, Any]) -> None:
        """Delete all checkpoints of the run `thread` and its graph `graph` but the last `kept`."""


class ThinningSaver(Thinning, SqliteSaver):
    """Checkpoints in an SQLite file."""

    def forget(self, names: Mapping[str, Any]) -> None:
        """Delete all checkpoints of the run `thread` and its graph `graph` but the last `kept`."""
        with self.cursor() as cursor:
            for table in ("writes", "checkpoints"):
                cursor.execute(_FORGET.format(table=table), names)
