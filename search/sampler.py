"""The search algorithms as a sampler for plain Optuna studies."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..search_space.architecture import Architecture
from ..search_space.gene_space import GeneSpace
from .algorithms import Algorithm, load_algorithm
from .evaluation import Evaluation

CONSTRAINTS = "constraints"
KNOWN = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)


class Sampler(BaseSampler):
    """`optuna.create_study(sampler=nas.Sampler(space))` asks an algorithm of ours what to try next.

    space: of the parameters that the objective asks for; others are drawn at random. Values, bounds (where trials
    carry Optuna's `constraints`) and failures are those of the study's trials, a pruned one counts as failed; trials
    that run in other processes are not asked for again.

    >>> study = optuna.create_study(sampler=nas.Sampler(space))
    >>> study.optimize(lambda trial: sum(p.numel() for p in function(trial).parameters()), n_trials=3)
    """

    def __init__(self, space: GeneSpace, algorithm: str | Algorithm = "auto", *, seed: int = 0) -> None:
        self.space = space
        self.algorithm = load_algorithm(algorithm)
        self.seed = seed
        self._others = RandomSampler(seed=seed)
        self._asked: dict[int, Architecture] = {}

    def reseed_rng(self) -> None:
        self._others.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: what Optuna calls relative needs its own distributions, and a net asks for genes in many ways."""
        del study, trial
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        del study, trial, search_space
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if trial.number not in self._asked:
            self._asked = {trial.number: self._ask(study, trial)}
        asked = self._asked[trial.number]
        if param_name in asked and param_distribution._contains(param_distribution.to_internal_repr(asked[param_name])):
            return asked[param_name]
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    def _ask(self, study: Study, trial: FrozenTrial) -> Architecture:
        trials = study.get_trials(deepcopy=False, states=(*KNOWN, TrialState.RUNNING))
        nets = {t.number: self._architecture(t.params) for t in trials if t.number != trial.number}
        evaluations = [
            self._evaluation(net, t, study.directions) for t in trials if (net := nets.get(t.number)) is not None
        ]
        finished = [evaluation for evaluation in evaluations if evaluation is not None]
        busy = {net for t in trials if t.state == TrialState.RUNNING and (net := nets.get(t.number)) is not None}
        rng = np.random.default_rng([self.seed, trial.number])
        asked = self.algorithm.ask(self.space, finished, 1 + len(busy), rng)
        new = [a for a in asked if a not in busy]
        return new[0] if new else self.space.sample(rng)

    def _architecture(self, params: Mapping[str, Any]) -> Architecture | None:
        """None: the trial did not get so far, or asked for something else."""
        genes = {name: value for name, value in params.items() if name in self.space.genes}
        try:
            return self.space.architecture(genes)
        except ValueError:
            return None

    def _evaluation(self, net: Architecture, trial: FrozenTrial, directions: list[StudyDirection]) -> Evaluation | None:
        if trial.state not in KNOWN:
            return None
        values = trial.values or [float("nan")] * len(directions)
        losses = tuple(v if d == StudyDirection.MINIMIZE else -v for v, d in zip(values, directions, strict=True))
        bounds = tuple(trial.system_attrs.get(CONSTRAINTS) or ())
        failed = trial.state != TrialState.COMPLETE or not np.isfinite((*losses, *bounds)).all()
        metrics = {str(i): value for i, value in enumerate(values)}
        return Evaluation(net, metrics, losses, bounds, failed)
