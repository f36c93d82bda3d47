"""What the heads of a model do: roles known from papers, measured on recordings, with intervals and with chance.

metrics.py    the roles, one small value each      axis.py       what stands along a map's axes
regions.py    parts of a map, as rules             measure.py    one call -> numbers of its heads
chance.py     the same call by a head of chance    tally.py      many inputs -> means and intervals
trials.py     inputs of our models, with losses    sentences.py  those we bring ourselves
influence.py  heads turned down, off, or alone     syntax.py     heads against a treebank
alignment.py  which word goes with which           result.py     the answer
table.py      its picture, for a terminal          wording.py    what that says, in two languages
"""
