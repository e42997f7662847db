"""What is to be learnt: data in three fixed splits, a loss and a metric. One task a file."""

from .registry import load_task, task_names
from .task import Split, Task

__all__ = ["Split", "Task", "load_task", "task_names"]
