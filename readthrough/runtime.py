"""Environment that must be set before the heavy libraries are imported. Importing this module sets it.

A value the user has set is left alone.
"""

from __future__ import annotations

import os

SETTINGS = {
    # libgomp's spinning barriers cost most of the throughput on a machine that does anything else as well
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    # its thread pool warns at every fork, and texts are tokenised in batches long enough to gain little from it
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # checkpoints are files: they must not be able to name code to run
    "LANGGRAPH_STRICT_MSGPACK": "true",
}

for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
