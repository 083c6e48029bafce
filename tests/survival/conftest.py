"""These tests start, kill and stop processes as Linux does."""

import sys

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]
