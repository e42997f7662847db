"""Files that Optuna keeps studies in: what is none, a damaged or a locked one is one sentence."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optuna.distributions import distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ..errors import UserError

WAIT = 60
"""Seconds, for another process to release the database."""
PAST = text("SELECT COUNT(*) FROM trials WHERE study_id = :study AND trial_id < :trial")
"""The number of a trial, as Optuna counts it; through its classes it takes 2 ms."""
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What Optuna raises when it reads rows that it did not write so."""


@contextmanager
def readable(storage: str | os.PathLike[str] | None) -> Iterator[None]:
    """What is no study database, a damaged or a locked one is a UserError that says so."""
    if storage is not None and "://" not in str(storage):
        check_file(Path(storage).expanduser())
    try:
        yield
    except UserError:
        raise
    except RuntimeError as error:  # Optuna's, of the version of its tables
        raise UserError(f"{storage} was written by another version of Optuna: {error}") from None
    except DAMAGE as error:
        raise unusable(storage, f"{type(error).__name__}: {error}") from None
    except (SQLAlchemyError, StorageInternalError) as error:
        if _is_full(error):
            raise
        raise unusable(storage, cause_of(error)) from None


def check_file(path: Path) -> None:
    """Errors: no file, no SQLite database, one of another program, damaged pages."""
    if not path.exists():
        return
    if not path.is_file():
        raise UserError(f"{path} is not a file; a study needs a SQLite file, or the name of a new one")
    try:  # rw: what a killed process left half-written is rolled back
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=rw", uri=True, timeout=WAIT)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            faults = [row[0] for row in database.execute("PRAGMA integrity_check(1)")]
    except sqlite3.Error as error:
        raise unusable(path, str(error)) from None
    if faults != ["ok"]:
        raise unusable(path, faults[0])
    if tables and not {"studies", "trials"} <= tables:
        raise UserError(f"{path} is a database of another program (it has no studies); name another file")


def unusable(storage: object, cause: str) -> UserError:
    """The error for a storage that cannot be read as a study, and what to do."""
    advice = "try again when no other program has it open" if "locked" in cause else "move it away to start again"
    return UserError(f"{storage} cannot be used as a study database: {' '.join(cause.split())}; {advice}")


def cause_of(error: BaseException) -> str:
    """The error of the database, in one line."""
    cause = str(getattr(error.__cause__, "orig", None) or getattr(error, "orig", None) or error)
    return cause.splitlines()[0]


def _is_full(error: BaseException) -> bool:
    return any(word in cause_of(error) for word in ("full", "disk I/O", "readonly"))


def optuna_storage(storage: str | os.PathLike[str]) -> str | BaseStorage:
    """As Optuna takes it: a URL as it is; a path is a SQLite file, whose folder is made."""
    if "://" in str(storage):
        return str(storage)
    path = Path(storage).expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not in the URL: there, ?, %20 and {} would be no part of the path.
    connect = partial(sqlite3.connect, path, timeout=WAIT, check_same_thread=False)
    return _WholeTrials("sqlite:///study.db", engine_kwargs={"creator": connect})


class _WholeTrials(RDBStorage):
    """Optuna's storage, but that a finished trial is inserted at once.

    Optuna looks up trial and study again for each parameter and attribute: 40 ms of CPU for a trial of 30 genes. The
    rows are the same.
    """

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        if template_trial is None or not template_trial.state.is_finished():
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        given = template_trial
        trial = models.TrialModel(
            study_id=study_id,
            state=given.state,
            datetime_start=given.datetime_start,
            datetime_complete=given.datetime_complete,
        )
        session.add(trial)
        session.flush()  # which gives it its id
        session.add_all(_rows(trial.trial_id, given))
        trial.number = session.execute(PAST, {"study": study_id, "trial": trial.trial_id}).scalar()
        return trial


def _rows(trial_id: Any, trial: FrozenTrial) -> Iterator[Any]:
    """All of a trial that is not in its own row."""
    for objective, value in enumerate(trial.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        yield models.TrialValueModel(trial_id=trial_id, objective=objective, value=stored, value_type=kind)
    for name, value in trial.params.items():
        how = trial.distributions[name]
        yield models.TrialParamModel(
            trial_id=trial_id,
            param_name=name,
            param_value=how.to_internal_repr(value),
            distribution_json=distribution_to_json(how),
        )
    tables = (models.TrialUserAttributeModel, trial.user_attrs), (models.TrialSystemAttributeModel, trial.system_attrs)
    for model, attributes in tables:
        for key, content in attributes.items():
            yield model(trial_id=trial_id, key=key, value_json=json.dumps(content))
