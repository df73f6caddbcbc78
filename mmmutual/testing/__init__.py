"""Checks of MMDetection's own configs: whether they can be made mutual and agree with stock."""
