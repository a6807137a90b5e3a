"""Predictions for the rows of a table: here, in several processes, or on many machines.

A :class:`Task` is one row with all its devices; an :func:`answer` needs nothing but the task, and
:func:`answer_all` is as many at once, faster. A :class:`Splitter` cuts a table into chunks of rows
as it comes, and :func:`answer_chunk` makes lines of the output of one, wherever it runs.
"""

from predictor.batching.answering import answer, answer_all
from predictor.batching.jobs import (
    Answered,
    Chunk,
    Job,
    Splitter,
    answer_chunk,
    answer_row,
    cut_up,
    fail_chunk,
)
from predictor.batching.tasks import (
    ADDED,
    LANGUAGE_SETTINGS,
    NOT_READ,
    READ,
    TARGET_SETTINGS,
    Answer,
    Task,
    task_of,
)

__all__ = [
    "ADDED", "LANGUAGE_SETTINGS", "NOT_READ", "READ", "TARGET_SETTINGS", "Answer", "Answered",
    "Chunk", "Job", "Splitter", "Task", "answer", "answer_all", "answer_chunk", "answer_row",
    "cut_up", "fail_chunk", "task_of",
]  # fmt: skip
