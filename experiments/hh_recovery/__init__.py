"""A Hodgkin-Huxley cell found again in a noisy recording: `python -m experiments.hh_recovery`."""
