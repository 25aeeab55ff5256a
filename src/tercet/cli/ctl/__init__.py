"""`tercetctl`, command by command: etcdctl's grammar, output formats, exit codes and error texts.

Own flag parsing, since click's differs from the pflag library's that etcdctl's users know: `--hex=false`, `-wjson`, prefixes of
commands.
"""
