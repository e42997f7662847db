"""A net of a description without its space: the same net, and one sentence where the genes are of another space."""

import json
from unittest import mock

import numpy as np
import pytest
import torch

from nas.errors import UserError
from nas.search_space import locate
from nas.search_space.locate import describe_space, net_from, space_from
from nas.search_space.quantization import policy_of

POLICIES = {"schemes": ["w8a8", "w4a16"], "granularity": "layer", "keep": ["stem*"]}


@pytest.mark.parametrize("policy", [None, POLICIES], ids=["floats", "quantized"])
def test_a_net_is_built_from_its_genes_alone(policy):
    description = {**describe_space("vit-digits", (1, 8, 8), 10), **({"quantize": policy} if policy else {})}
    space = space_from(json.loads(json.dumps(description)))
    for seed in range(3):
        genes = space.sample(np.random.default_rng(seed))
        before = torch.get_rng_state()
        with mock.patch.object(locate.SearchSpace, "__init__", side_effect=AssertionError("no space is needed")):
            net = net_from(description, dict(genes))
        assert torch.get_rng_state().equal(before)
        expected = space.build(genes, "meta")
        assert policy_of(net) == policy_of(expected)
        shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (net, expected)]
        assert shapes[0] == shapes[1]


def test_genes_of_another_space_are_one_sentence():
    description = describe_space("vit-digits", (1, 8, 8), 10)
    genes = dict(space_from(description).smallest)
    with pytest.raises(UserError, match="no gene colour in this net"):
        net_from(description, {**genes, "colour": "red"})
    name = next(iter(genes))
    with pytest.raises(UserError, match=f"gene '{name}' has no option -7; valid: "):
        net_from(description, {**genes, name: -7})
    with pytest.raises(UserError, match=f"gene '{name}'"):
        net_from(description, {k: v for k, v in genes.items() if k != name})
