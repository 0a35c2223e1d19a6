"""Batch norm that counts over the images of all processes: `train.sync_batchnorm`.

Each process by itself would normalise by its own share of a batch, which another number of processes makes another one.
"""

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nanocv_cli.errors import ConfigError

# By the exact type: a subclass may compute something else besides, an activation for one.
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch norms that count over the group that has been joined; it shares their tensors.

    Args:
        network: changed in place; names of parameters stay.
        device: of the network. CUDA has torch's own kernels for this, other devices have none.

    Raises:
        ConfigError: a batch norm is of a kind that does more than normalise.
    """
    make = nn.SyncBatchNorm.convert_sync_batchnorm if device.type == "cuda" else SynchronisedBatchNorm
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if not isinstance(norm, _BatchNorm):
                continue
            if type(norm) not in PLAIN:
                raise ConfigError(
                    f"train.sync_batchnorm: {type(network).__name__} has norms of the kind {type(norm).__name__}, "
                    "which cannot count over several processes",
                    "--set train.sync_batchnorm=false, or another model",
                )
            setattr(parent, name, make(norm))
    return network


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm (arXiv:1502.03167) whose mean and variance in training are those of all processes' images together.

    In evaluation mode it is the norm that it was made of.

    Args:
        norm: whose parameters and statistics it takes over.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalises [N,C,...] over all but C, in float32."""
        if not self.training:
            return F.batch_norm(
                inputs, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        values, others = inputs.float(), [0, *range(2, inputs.ndim)]
        shape = [1, -1, *[1] * (inputs.ndim - 2)]
        own = values.new_tensor([values.numel() // values.shape[1]])
        sums = _SumOfAll.apply(torch.cat([values.sum(others), own]))
        count, mean = sums[-1], sums[:-1] / sums[-1]
        centred = values - mean.view(shape)
        variance = _SumOfAll.apply(centred.square().sum(others)) / count
        if self.running_mean is not None and self.running_var is not None:
            self._count(mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)).detach())
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        answered: Tensor = normal.to(inputs.dtype)
        return answered

    @torch.no_grad()
    def _count(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics, by their momentum or, without one, to the mean of all batches."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class _SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(values: Tensor) -> Tensor:
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total
