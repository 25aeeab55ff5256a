"""What survives a power cut: the write-ahead log, the backend, and the disk behind both.

The doors are in interfaces.py; production opens them with `OsFileSystem`, `ThreadedLogStore` and `LmdbBackend`, the simulator with
`SimulatedFileSystem`, `WAL` and `MemoryBackend`. Import these by their modules: who needs the memory ones should not load LMDB.
"""
