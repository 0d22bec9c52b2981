"""Depthwise 2-D convolution for JAX: an XLA custom call with derivatives, batching and sharding.

>>> import jax, jax.numpy as jnp
>>> from depthwise.jax import depthwise_conv2d
>>> x, kernel = jnp.ones((1, 32, 32, 3)), jnp.full((5, 5, 3, 1), 1 / 25)
>>> jax.jit(lambda x: depthwise_conv2d(x, kernel, padding="same"))(x).shape
(1, 32, 32, 3)
"""

from depthwise.jax.function import depthwise_conv2d

__all__ = ["depthwise_conv2d"]
