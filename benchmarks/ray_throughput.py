"""Documents a minute of a batch with one and with two workers of Ray, over an endpoint that takes its time.

    python -m benchmarks.ray_throughput [--documents 40] [--seconds 0.8] [--out NAME]

The endpoint stands on loopback and waits before every reply, so that the work is bound by it and not by the processor.
Counted from the first call to the end of the batch; what Ray and the workers take to start stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from benchmarks.results import write_results
from readthrough.batch.running import run
from tests.cluster_samples import job_of, settings_of, slowly, write_documents
from tests.fake_server import FakeServer

AIM_RATIO = 1.7


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Throughput of one and of two workers of Ray.")
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.8, help="how long the endpoint takes for a call")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    os.environ.update({"NO_PROXY": "127.0.0.1", "OPENAI_API_KEY": "none", "RAY_USAGE_STATS_ENABLED": "0"})
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="error")
    with tempfile.TemporaryDirectory() as folder:
        found = {workers: measure(Path(folder), workers, options) for workers in (1, 2)}
    ratio = found[2]["documents_a_minute"] / found[1]["documents_a_minute"]
    report = {
        "documents": options.documents,
        "endpoint_seconds": options.seconds,
        "workers": found,
        "ratio": round(ratio, 3),
        "aim_ratio": AIM_RATIO,
    }
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def measure(folder: Path, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """Documents a minute, seconds before the first call, and calls, of one batch."""
    documents = write_documents(folder / f"docs{workers}", options.documents)
    with FakeServer([slowly(options.seconds)]) as server:
        settings = settings_of(folder / f"home{workers}", server)
        started = time.monotonic()
        outcome = run(job_of(documents, folder / f"{workers}.jsonl", workers=workers, engine="ray"), settings)
        ended = time.monotonic()
        if outcome.counts != {"done": options.documents}:
            raise RuntimeError(f"not all was answered: {outcome.counts}")
        at_work = ended - server.times[0]
        return {
            "documents_a_minute": round(60 * options.documents / at_work, 2),
            "starting_seconds": round(server.times[0] - started, 2),
            "calls": len(server.requests),
        }


if __name__ == "__main__":
    main()
