"""The entry point of the pytest plugin, which is tercet.testing.plugin.

It is a top-level module because pytest marks the modules of a plugin's distribution for the rewriting of asserts, and takes the
packages below the first directory for them if there is no module at the top. The distribution `tercet` without
tercet/__init__.py, which belongs to `tercet-client`, then claims names such as `server` and `config` of the user's modules, and
each that has been imported by then is a warning.
"""

pytest_plugins = ["tercet.testing.plugin"]
