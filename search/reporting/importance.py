"""Which gene mattered: the share of an objective's variance over the evaluated nets that each gene explains."""

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from ...search_space.trial import Gene, position
from ..evaluation import Evaluation
from ..optuna_algorithm import over_ranks
from ..storage import quiet
from ..study import Study

LEAST_NETS = 30
"""Fewer nets say nothing: in a table of noise some gene always leads."""
MOST_NETS = 1000
"""Of more, so many are drawn at random: the forest then takes a second for each objective."""
TREES, DEPTH = 16, 8


def importances(study: Study, seed: int = 0) -> dict[str, dict[str, float]]:
    """Objective -> gene -> importance from 0 to 1, the most important first; nothing where too few nets are known.

    fANOVA (Hutter, Hoos and Leyton-Brown, 2014) by Optuna, over every net that gave finite values. A gene that a net
    lacks has no effect on it: there it is given a value drawn from the other nets', so that the gene which removed it
    takes the credit. The nets are those of the search, which looks at good ones more often.
    """
    rng = np.random.default_rng(seed)
    evaluations = [e for e in study.evaluations if not e.failed]
    genes = {n: g for n, g in study.space.genes.items() if len({e.architecture.get(n) for e in evaluations}) > 1}
    if len(evaluations) < LEAST_NETS or not genes:
        return {}
    if len(evaluations) > MOST_NETS:
        evaluations = [evaluations[i] for i in sorted(rng.choice(len(evaluations), MOST_NETS, replace=False))]
    table = {name: _column(gene, evaluations, rng) for name, gene in genes.items()}
    with quiet():
        return {
            name: _importances(genes, table, [e.metrics[name] for e in evaluations], seed)
            for name in study.problem.objectives
        }


def _column(gene: Gene, evaluations: Sequence[Evaluation], rng: np.random.Generator) -> list[int]:
    """Ranks of the gene's options in these nets; drawn from the others' where a net has no such gene."""
    ranks = [position(gene, e.architecture[gene.name]) for e in evaluations if gene.name in e.architecture]
    having = iter(ranks)
    return [next(having) if gene.name in e.architecture else int(rng.choice(ranks)) for e in evaluations]


def _importances(
    genes: Mapping[str, Gene], table: Mapping[str, Sequence[int]], values: Sequence[float], seed: int
) -> dict[str, float]:
    if len(set(values)) < 2:
        return {}
    distributions = {name: over_ranks(gene) for name, gene in genes.items()}
    copy = optuna.create_study()
    copy.add_trials(
        [
            optuna.create_trial(params={n: table[n][i] for n in genes}, distributions=distributions, value=value)
            for i, value in enumerate(values)
        ]
    )
    evaluator = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=seed)
    result = get_param_importances(copy, evaluator=evaluator, normalize=False)  # of the whole variance
    return {name: float(share) for name, share in sorted(result.items(), key=lambda item: -item[1])}
