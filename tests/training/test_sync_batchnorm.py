"""Which norms of a network count over all processes; what they then compute, two processes show (`test_group.py`)."""

import pytest
import torch
from torch import Tensor, nn

from nanocv_cli.errors import ConfigError
from nanocv_cli.training.sync_batchnorm import SynchronisedBatchNorm, synchronise_norms


class ActivatedNorm(nn.BatchNorm2d):
    """As some packages have it: a norm that holds the activation behind it."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises, and is never negative."""
        return super().forward(input).relu()


@pytest.mark.parametrize(("device", "kind"), [("cpu", SynchronisedBatchNorm), ("cuda", nn.SyncBatchNorm)])
def test_plain_norms_take_their_tensors_along(device: str, kind: type[nn.Module]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.GroupNorm(2, 4))
    before = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    synchronised = synchronise_norms(network, torch.device(device))
    assert {name: tensor.data_ptr() for name, tensor in synchronised.state_dict().items()} == before
    assert [type(module) for module in synchronised.modules() if not list(module.children())] == [
        nn.Conv2d, kind, nn.ReLU, nn.GroupNorm,
    ]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_norm_that_does_more_is_refused_and_not_replaced(device: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), ActivatedNorm(4))
    with pytest.raises(ConfigError, match="norms of the kind ActivatedNorm") as refused:
        synchronise_norms(network, torch.device(device))
    assert "train.sync_batchnorm=false" in refused.value.hint
    assert type(network[1]) is ActivatedNorm
