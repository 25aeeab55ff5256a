"""The program of the backup timer. It runs on the hosts, whatever engine they have, under any python3 from 3.7 on.

    python3 -I /opt/tercet/backup.pyz --name=kube-node1 --directory=/var/backups/etcd ...

It may use nothing but the standard library, and libcrypto, which is where sshd is. `plan/backup_program` packs these modules
into one file; they import only one another.
"""
