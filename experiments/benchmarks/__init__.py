"""The same networks in brainsim and its peers, side by side: `python -m experiments.benchmarks`."""
