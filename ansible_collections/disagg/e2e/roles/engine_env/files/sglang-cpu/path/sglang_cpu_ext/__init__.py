"""SGLang's external model package (``SGLANG_EXTERNAL_MODEL_PACKAGE=sglang_cpu_ext``).

SGLang imports each module of it while it builds its table of models (``srt/models/registry.py``), and then
loads its own 280 model files only if the wanted architecture is not in the table.
"""
