"""The PyTorch front-end.

>>> import torch
>>> from depthwise.torch import DepthwiseConv2d
>>> layer = DepthwiseConv2d(32, 3, stride=2, padding="same", activation="relu6")
>>> layer(torch.zeros(1, 32, 112, 112)).shape
torch.Size([1, 32, 56, 56])
"""

from depthwise.torch import threads
from depthwise.torch.layers import DepthwiseConv2d
from depthwise.torch.ops import depthwise_conv2d

__all__ = ["DepthwiseConv2d", "depthwise_conv2d"]

threads.share()
