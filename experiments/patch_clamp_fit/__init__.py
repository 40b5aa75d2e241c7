"""AdEx, GIF and Hodgkin-Huxley-type cells fitted to patch-clamp recordings: `python -m experiments.patch_clamp_fit`."""
