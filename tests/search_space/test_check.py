"""`space.check` judges spaces whose weight sharing is known, in both directions, and says what fixes them."""

import pytest
import torch
from check_spaces import CASES, IMAGES, ROWS, TOKENS, Case, Net, Residual
from torch import nn

from nas.errors import UserError
from nas.search_space.inputs import random_like
from nas.search_space.space import SearchSpace
from nas.supernet.store import Supernet

NAMED = {case.name: case for case in CASES}


def findings(case: Case):
    return SearchSpace(case.function, layouts=case.layouts).check(case.example)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_verdict(case: Case):
    assert (findings(case) == []) == case.right


QUICK = [
    "rms_norm_by_hand",
    "post_norm_depth_without_a_head",
    "head_is_as_large_as_a_hidden_layer",
    "gates_side_by_side_in_two_units",
    "interleaved_gates",
    "size_by_name",
    "flatten_channels_first",
    "key_value_heads_in_blocks",
    "number_of_heads_at_a_fixed_width",
    "transposed_weight_with_the_rule_of_linear",
    "log_of_a_parameter",
    "softmax_written_by_hand",
    "experts",
]


@pytest.mark.parametrize("name", QUICK)
def test_the_verdict_on_a_few(name: str):
    assert (findings(NAMED[name]) == []) == NAMED[name].right


MENDED = [
    "gates_side_by_side",
    "gate_only_under_the_second_alternative",
    "concat_with_a_fixed_part_behind",
    "dense_net",
    "u_net",
    "flatten_channels_last",
    "fixed_number_of_groups",
    "fixed_heads_of_the_width",
    "transposed_weight",
    "gru_in_both_directions",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", MENDED)
def test_the_proposed_rule_fixes_the_space(name: str):
    case = NAMED[name]
    (finding,) = findings(case)
    assert finding.layouts is not None
    assert "fixes it" in finding.message
    assert SearchSpace(case.function, layouts=finding.layouts).check(case.example) == []


def test_the_finding_names_parameter_and_rule():
    (finding,) = findings(NAMED["concat_of_equals"])
    assert (finding.gene, finding.parameter) == ("width", "o.weight")
    assert finding.layouts == {"o.weight": {1: (2, -1)}}
    assert 'layouts={"o.weight": {1: (2, -1)}} fixes it' in finding.message


def test_what_cannot_be_evaluated_is_said():
    def function(trial):
        return Net(lambda m, x: m.r(x) * torch.nan, r=Residual(12, h=trial.suggest_int("h", 8, 16, step=8)))

    (finding,) = SearchSpace(function).check(ROWS)
    assert "could not be checked, for some outputs are not numbers" in finding.message


def test_an_example_that_the_nets_do_not_take():
    space = SearchSpace(lambda trial: nn.Linear(12, trial.suggest_int("w", 4, 8, step=4)))
    with pytest.raises(UserError, match="the largest net does not take the example: RuntimeError"):
        space.check(IMAGES)


def test_tokens_are_drawn_over_the_rows_of_the_table():
    net = nn.Sequential(nn.Embedding(50, 4))
    drawn = random_like(TOKENS.repeat(8, 1), torch.Generator().manual_seed(0), net)
    assert drawn.unique().numel() > 20
    assert int(drawn.max()) < 50
    masks = torch.ones(2, 3, dtype=torch.long)
    kept = random_like(masks, torch.Generator().manual_seed(0), nn.Identity())
    assert torch.equal(kept, masks)


def test_segments_extract_as_they_run_and_get_all_gradients():
    case = NAMED["dense_net_with_segments"]
    space = SearchSpace(case.function, layouts=case.layouts)
    supernet = Supernet(space)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    architecture = space.smallest
    y = supernet.eval()(x, architecture)
    assert torch.equal(y, supernet.extract(architecture)(x))
    y.square().sum().backward()
    full = supernet.store.get_parameter("head.weight")
    corner = supernet.corners(architecture)["head.weight"]
    # The stem's 8 columns, then the first 4 of each layer's 8.
    columns = [*range(8), *(8 + 8 * layer + i for layer in range(3) for i in range(4))]
    assert torch.equal(corner.of(full.detach()), full[:, columns])
    outside = full.grad.clone()
    assert outside[:, columns].ne(0).any(0).all()
    outside[:, columns] = 0
    assert not outside.any()
