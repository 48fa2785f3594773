"""What all tests share: how hard hypothesis searches, and how many processes run them."""

import os

from hypothesis import HealthCheck, settings

# Examples are quick, but the first one of a process pays for imports and caches: a deadline would only be noise.
settings.register_profile("fast", deadline=None, max_examples=100)
settings.register_profile("deep", deadline=None, max_examples=5000)
settings.register_profile(
    "ci", deadline=None, max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_xdist_auto_num_workers() -> int:
    """Run three processes for two cores: a third of the time of the tests is waiting for what they started."""
    cores = len(os.sched_getaffinity(0))
    return cores + (cores + 1) // 2
