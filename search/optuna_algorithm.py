"""The samplers of Optuna as search algorithms, by the name "optuna:NAME"."""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..errors import unknown
from ..search_space.architecture import Architecture, GeneValue
from ..search_space.codes import Codes
from ..search_space.gene_space import GeneSpace
from ..search_space.trial import Gene, position
from .draws import unseen
from .evaluation import Evaluation
from .storage import quiet

TRIES_EACH = 3


@dataclass(frozen=True)
class OptunaSampler:
    """The sampler sees options by their index: whole numbers where a gene is nested, categories where it is not.

    sampler: a class of `optuna.samplers`. Slow: the study is rebuilt for every batch, and most samplers look at every
    gene by itself. What a sampler keeps for itself beside the trials is lost from batch to batch.
    """

    sampler: str
    batch: int = 5

    @property
    def name(self) -> str:
        return f"optuna:{self.sampler}"

    def ask(
        self, space: GeneSpace, evaluations: Sequence[Evaluation], n: int, rng: np.random.Generator
    ) -> list[Architecture]:
        seen = {e.architecture for e in evaluations}
        asked: dict[Architecture, None] = {}
        if any(not e.failed for e in evaluations):
            study = _study(space, evaluations, _sampler(self.sampler, int(rng.integers(2**31))))
            for _ in range(TRIES_EACH * n):
                if len(asked) >= n:
                    break
                candidate = _suggested(space, study)
                if candidate not in seen and space.allows(candidate):
                    asked[candidate] = None
        results = list(asked)
        return results + unseen(space, seen.union(results), n - len(results), rng)


def named_sampler(name: str) -> OptunaSampler:
    """The algorithm of a class of `optuna.samplers`. Error: there is none of that name that can be seeded."""
    if name not in _usable():
        raise unknown("sampler of Optuna", name, _usable())
    return OptunaSampler(name)


def _usable() -> list[str]:
    classes = {name: getattr(optuna.samplers, name) for name in optuna.samplers.__all__}
    return [n for n, c in classes.items() if isinstance(c, type) and _is_seeded(signature(c).parameters.values())]


def _is_seeded(parameters: Collection[Parameter]) -> bool:
    """Whether it takes a seed, and wants nothing else (as a grid)."""
    wanted = [
        p.name for p in parameters if p.default is Parameter.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    return not wanted and any(p.name == "seed" for p in parameters)


def _sampler(name: str, seed: int) -> BaseSampler:
    kind: Any = getattr(optuna.samplers, name)
    wanted = {"seed": seed, "constant_liar": True, "constraints_func": _violations}
    parameters = signature(kind).parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)  # Optuna 5 has a new name for constraints_func, Optuna 4 has not
        result: BaseSampler = kind(**{key: value for key, value in wanted.items() if key in parameters})
    return result


def _study(space: GeneSpace, evaluations: Sequence[Evaluation], sampler: BaseSampler) -> optuna.Study:
    objectives = len(next(e for e in evaluations if not e.failed).losses)
    with quiet():
        study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
    codes = Codes(space)
    rows = codes.rows([e.architecture for e in evaluations])
    study.add_trials([_trial(codes, row.tolist(), e) for row, e in zip(rows, evaluations, strict=True)])
    return study


def _violations(trial: FrozenTrial) -> Sequence[float]:
    """Only asked of new trials, and those are never finished."""
    del trial
    return ()


def _trial(codes: Codes, row: list[int], evaluation: Evaluation) -> FrozenTrial:
    present = [(gene, at) for gene, at in zip(codes.genes, row, strict=True) if at >= 0]
    failed = evaluation.failed
    return create_trial(
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        values=None if failed else list(evaluation.losses),
        params={gene.name: at for gene, at in present},
        distributions={gene.name: over_ranks(gene) for gene, _ in present},
        system_attrs={"constraints": list(evaluation.violations)},
    )


def over_ranks(gene: Gene) -> BaseDistribution:
    """Over the ranks of the options: numbers keep their order."""
    n = len(gene.options)
    return IntDistribution(0, n - 1) if gene.nested else CategoricalDistribution(tuple(range(n)))


def _suggested(space: GeneSpace, study: optuna.Study) -> Architecture:
    """The trial stays open: the sampler keeps away from it."""
    trial = study.ask()

    def choose(gene: Gene) -> GeneValue:
        full = space.genes[gene.name]  # where options depend on other genes, those of all architectures
        value = full.options[int(trial._suggest(gene.name, over_ranks(full)))]
        return value if value in gene.options else gene.options[position(full, value) % len(gene.options)]

    return space.walk(choose)
