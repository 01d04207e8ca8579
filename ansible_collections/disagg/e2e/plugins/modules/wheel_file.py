"""Documentation of the action disagg.e2e.wheel_file, which runs on the controller only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_file
short_description: Have the wheel that was asked for as a file, and know what it is
description:
  - An action of the controller, which does not need a connection to a node.
  - A file is taken as it is. A version is fetched once from the package index that pip is configured with.
  - A URL is fetched once. It has to name the digest of what it leads to, and what comes is compared with it.
    Credentials are those of C(~/.netrc).
  - An artifact of GitHub Actions is fetched once, with the token in the environment variable C(GH_TOKEN) or
    C(GITHUB_TOKEN), from the API at C(GITHUB_API_URL) (default C(https://api.github.com)). The token goes to that
    server only. It needs the permission C(Actions, read) of the repository.
  - What breaks on the way, server errors and rate limits are tried five times, with 5 s times the number of tries
    between.
options:
  source:
    description:
      - A path ending in C(.whl), a version of O(package), C(https://…/x.whl#sha256=HEX) (or C(http://)), or
        C(artifact:ID).
    type: str
    required: true
  package:
    description:
      - Name of the distribution that a version is of, and that a wheel has to be of where an artifact holds several.
    type: str
    required: true
  cache_dir:
    description: Directory that keeps what was fetched.
    type: path
    required: true
  repository:
    description:
      - The repository that an artifact is of, as owner/name. Empty is C(GIT_REPO) of the environment.
    type: str
    default: ""
  python_tag:
    description: >-
      Tag of the Python that will import it, such as C(cp312), where an index or an artifact has several. Empty is the
      controller's for an index, and any for an artifact.
    type: str
    default: ""
  machine:
    description: Machine that will load it, such as C(x86_64), where an artifact holds several. Empty is any.
    type: str
    default: ""
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Have a release
  disagg.e2e.wheel_file:
    source: 0.3.13.post1
    package: mooncake-transfer-engine-non-cuda
    cache_dir: /var/cache/disagg-e2e/wheels

- name: Have what a pull request built
  disagg.e2e.wheel_file:
    source: artifact:123456789
    repository: kvcache-ai/Mooncake
    package: mooncake-transfer-engine-cuda13
    python_tag: cp312
    machine: x86_64
    cache_dir: /var/cache/disagg-e2e/wheels
"""

RETURN = r"""
file:
  description: The wheel.
  returned: success
  type: str
sha256:
  description: Its digest.
  returned: success
  type: str
version:
  description: The version in its metadata.
  returned: success
  type: str
source:
  description: C(file), C(index), C(url) or C(artifact).
  returned: success
  type: str
origin:
  description: Where it came from, for a person. A URL is without its query.
  returned: success
  type: str
  sample: artifact 123456789 of kvcache-ai/Mooncake
"""
