"""The commands of `tercetutl`: etcdutl's work on files of members that do not run, for etcd's files and for tercet's."""
