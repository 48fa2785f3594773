"""Health and metrics of a running gateway, answered by the supervisor over HTTP."""
