"""The saver of a run's checkpoints: SqliteSaver, which lets go of old ones, so that a long run's file does not grow."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.sqlite import SqliteSaver

KEPT_STEPS = 100
"""How many checkpoints of a graph are kept: the last is enough to go on, the run log tells what was before."""

_FORGET = """DELETE FROM {table} WHERE thread_id = :thread AND checkpoint_ns = :graph AND checkpoint_id < (
    SELECT checkpoint_id FROM checkpoints WHERE thread_id = :thread AND checkpoint_ns = :graph
    ORDER BY checkpoint_id DESC LIMIT 1 OFFSET :kept)"""


def is_time(metadata: CheckpointMetadata) -> bool:
    """Whether old checkpoints are to be deleted after this one."""
    step = metadata.get("step", 0)
    return step > KEPT_STEPS and step % KEPT_STEPS == 0


class ThinningSaver(SqliteSaver):
    """Keeps the last `KEPT_STEPS` checkpoints of each graph of a run, and up to as many before them."""

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint; every hundredth time, delete those that nobody will go back to."""
        saved = super().put(config, checkpoint, metadata, new_versions)
        if is_time(metadata):
            where: dict[str, Any] = saved["configurable"]
            names = {"thread": where["thread_id"], "graph": where["checkpoint_ns"], "kept": KEPT_STEPS - 1}
            with self.cursor() as cursor:
                for table in ("writes", "checkpoints"):
                    cursor.execute(_FORGET.format(table=table), names)
        return saved
