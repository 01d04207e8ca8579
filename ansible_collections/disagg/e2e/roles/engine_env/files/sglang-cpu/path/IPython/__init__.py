"""Stand-in for IPython: ``sglang/utils.py`` imports two names of it for use in notebooks."""
