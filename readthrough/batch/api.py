"""A batch from Python: `readthrough.run_batch("reports", "answers.jsonl", questions=["Who signed it?"])`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from readthrough.config import Overrides, load_settings

if TYPE_CHECKING:
    from readthrough.batch.job import Job
    from readthrough.batch.running import Outcome
    from readthrough.types import Event


def run_batch(
    what: str | Path | Job,
    out: str | Path | None = None,
    questions: Sequence[str] = (),
    extract: Mapping[str, Any] | str | None = None,
    on_event: Callable[[Event], None] | None = None,
    **overrides: Unpack[Overrides],
) -> Outcome:
    """Ask every document of a folder, and write the results; called again it goes on where it was.

    Args:
        what: the folder; or a `readthrough.batch.job.Job`, which says all that the command line can; or the YAML file
            of one.
        out: the file of the results, of a folder: `.jsonl`, `.csv` or `.parquet`.
        questions: what is asked of every document of a folder.
        extract: a JSON Schema, or its file: the fields that are extracted of every document of a folder.
        on_event: hears of progress.
        overrides: settings that win over all others.

    Raises:
        UsageError: there is nothing to do, or no file to write.
        ConfigError: something is wrong in the YAML file or the settings.
        ReadthroughError: the folder or the model cannot be used, or the endpoint is down. What was answered is kept.
    """
    from readthrough.batch.file import read_job
    from readthrough.batch.job import Job
    from readthrough.batch.running import Listener, run
    from readthrough.batch.works import asks, extraction
    from readthrough.errors import UsageError
    from readthrough.questions import Asked

    given: Overrides = overrides
    if isinstance(what, Job):
        job = what
    elif Path(what).suffix in (".yaml", ".yml"):
        read = read_job(Path(what))
        job, given = read.job, {**read.overrides, **overrides}
    elif out is None:
        raise UsageError("where are the results to go?", hint='run_batch(folder, "answers.jsonl", ...)')
    else:
        works = asks(Asked(text) for text in questions) + ([] if extract is None else [extraction(extract)])
        job = Job(Path(what), tuple(works), Path(out))
    return run(job, load_settings(given).settings, Listener(on_event))
