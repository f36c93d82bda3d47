"""The one transformer: x [B, T, D] goes in, every block reads and adds, x [B, T, D] comes out.

Letters: B batch, T queries, S keys, H query heads, G key/value heads, K head_dim, D d_model, F d_ff, V vocabulary.
"""

from polyhead.core.recipe import Recipe
from polyhead.core.run import Observer, Run
from polyhead.core.stack import Stack

__all__ = ["Observer", "Recipe", "Run", "Stack"]
