from .data import Data as Data
from .data import Split as Split
from .embeddings import embedding_task as embedding_task
from .registry import load_task as load_task
from .registry import task_names as task_names
from .task import Task as Task
from .text import text_task as text_task
