"""Engines side by side on the reader's own machine: the same model, the same work, in turns.

bench.py      the public function          result.py   what was found
job.py        what all engines do          machine.py  what it was measured on
processes.py  engines in processes         speeds.py   figures of rounds
engines/      one engine a file, each imported only in a process of its own
"""
