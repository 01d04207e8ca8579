"""Stands where vLLM's package is, for the scenarios of roles vllm_server and vllm_proxy."""
