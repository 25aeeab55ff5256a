"""Creation of a cluster.yaml: from names and addresses, or from the files of a manual deployment.

`importing` reads an environment.sh and unit files, `template` writes the text.

Input files are never executed, and contradictions between them are errors. This package imports `cluster/` only; only the
command line imports it.
"""
