"""Models of others: attention is seen where PyTorch computes it, below every module, and named by who was running.

onlooker.py  every operation passes by      fused.py     kernels that never write weights out
explicit.py  softmax written by hand        native.py    PyTorch's own fast paths
flexible.py  FlexAttention                  masks.py     tensors of masks become rules
running.py   which module runs now          sighting.py  what is known of one call
kept.py      calls stay what they were      origin.py    self-attention or cross-attention
marks.py     marks on pieces of memory      inventory.py what should have been seen
"""
