"""The commands of `tercetctl`: etcdctl's grammar, output formats, exit codes and error texts.

Flags are parsed here and not by click, since etcdctl's library (pflag) differs: `--hex=false`, `-wjson`, command prefixes.
"""
