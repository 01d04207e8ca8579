"""Stand-in for ``triton.language.extra.libdevice``: only kernels use its names, and they never run."""
