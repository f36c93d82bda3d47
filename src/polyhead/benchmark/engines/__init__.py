"""One engine a file. Peers are imported here, each in a process of its own, and nowhere else in the package."""
