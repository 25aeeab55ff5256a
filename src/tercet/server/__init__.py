"""A member as a process: TLS, listeners, logs, metrics, start and stop. The entry point is `main.main`."""
