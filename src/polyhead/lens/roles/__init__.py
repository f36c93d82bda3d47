"""What the heads of a model do: roles known from papers, measured on recordings, with intervals and with chance.

metrics.py    the roles, one small value each      axis.py       what stands along a map's axes
regions.py    parts of a map, as rules             measure.py    one call -> numbers of its heads
chance.py     the same call by a head of chance    tally.py      many inputs -> means and intervals
trials.py     inputs of our models, with losses    syntax.py     heads against a treebank
influence.py  heads turned down, off, or alone     result.py     the answer
alignment.py  which word goes with which           wording.py    what it says, in two languages
table.py      its picture, for a terminal
"""
