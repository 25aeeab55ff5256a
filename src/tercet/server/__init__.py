"""One member as a process: flags, TLS, listeners, wiring, start and stop. `main.main` is the door."""
