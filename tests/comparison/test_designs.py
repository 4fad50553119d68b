"""Designs beyond the papers: what they make of a network, and their names."""

import copy

import pytest
import torch

from robust_lpips.comparison.designs import NETWORKS, VARIANTS, chosen_variants, reconfigured

BASE = "alexnet-shift-tolerant"


@pytest.mark.parametrize("design", NETWORKS[BASE], ids=lambda design: design.name)
def test_evaluations_are_those_that_the_network_does(design, metric, image_pair):
    network = metric.unfuse()
    made = design.factory(network)
    seen = []
    backbone = getattr(made, "metric", made).unfuse().backbone
    backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        made(*image_pair("photographs", 3, 64, 64))
    assert sum(seen) == 3 * design.evaluations


def test_reconfigured_has_the_weights_and_leaves_the_metric(metric, image_pair):
    before = copy.deepcopy(metric.state_dict())
    made = reconfigured(metric, blur_size=5)
    assert made.config.blur_size == 5
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert metric.config.blur_size == 3
    pair = image_pair("photographs", 2, 64, 64)
    assert torch.equal(reconfigured(metric)(*pair), metric(*pair))
    assert not torch.allclose(made(*pair), metric(*pair), rtol=0.01)


def test_variants_come_with_their_networks():
    assert [variant.name for variant in chosen_variants()] == list(VARIANTS)
    assert {variant.base for variant in chosen_variants()} == set(NETWORKS)
    names = [variant.name for variant in chosen_variants([f"{BASE}-jittered"])]
    assert names == [BASE, f"{BASE}-jittered"]
