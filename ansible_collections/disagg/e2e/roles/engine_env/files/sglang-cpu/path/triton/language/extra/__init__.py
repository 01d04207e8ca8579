"""Stand-in for ``triton.language.extra``, the folder of ``libdevice``."""
