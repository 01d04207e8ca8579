"""Run the simulator: ``python -m pyharness.simulator serve|model|reference|misbehaviours``."""

import sys

from pyharness.simulator.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
