"""Transcripts: text files with their purpose, commands, and after `---` the recorded events.

python -m tests.raft.script              compare all
python -m tests.raft.script --record     record all again; review the diff
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

from tercet.errors import TercetError
from tercet.raft import (
    ConfChange,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
    Ready,
    Role,
    Snapshot,
)
from tercet.raft.codec import conf_change_in
from tests.raft.cluster import Cluster, Member

SCRIPTS = Path(__file__).parents[1] / "scripts" / "raft"


class ScriptedCluster(Cluster):
    """A cluster that records what happens, line by line."""

    def __init__(self, *, seed: int = 0, **options: object) -> None:
        super().__init__(seed=seed, **options)
        self.lines: list[str] = []
        self._shown: dict[int, tuple[object, ...]] = {}

    def watch(self, member: Member) -> None:
        super().watch(member)
        raft = member.raft
        shown = (raft.role, raft.term, raft.leader_id)
        if shown != self._shown.get(raft.id):
            if raft.id in self._shown:
                self.lines.append(f"node {raft.id} {_role(member)}")
            self._shown[raft.id] = shown

    def notice(self, member: Member, ready: Ready) -> None:
        who, stalled = f"node {member.id}", " (disk is stalled)" if member.is_stalled and ready.must_sync else ""
        if ready.snapshot is not None:
            self.lines.append(
                f"{who} installs snapshot {_position(ready.snapshot)}, {_conf(ready.snapshot.conf_state)}{stalled}"
            )
        if ready.entries:
            self.lines.append(f"{who} appends {_entries(ready.entries)}{stalled}")
        if ready.committed:
            self.lines.append(f"{who} applies {_entries(ready.committed)}")
        for message in ready.messages:
            self.lines.append(f"{who} sends {describe(message)}")

    def answer_read(self, member: Member, context: bytes, index: int) -> None:
        super().answer_read(member, context, index)
        self.lines.append(f"node {member.id} may answer read {context.decode()} at index {index}")

    def deliver(self, message: Message) -> None:
        receiver = self.members.get(message.to)
        if receiver is None or not receiver.is_up or {message.from_, message.to} & self.cut:
            self.lines.append(f"lost: node {message.from_} sends {describe(message)}")
        super().deliver(message)


def _role(member: Member) -> str:
    raft = member.raft
    if raft.role is Role.LEADER:
        return f"is leader in term {raft.term}"
    if raft.role is Role.CANDIDATE:
        return f"is candidate in term {raft.term}"
    if raft.role is Role.PRE_CANDIDATE:
        return f"is pre-candidate for term {raft.term + 1}"
    return f"follows {raft.leader_id or 'no leader'} in term {raft.term}"


def _position(at: Entry | Snapshot) -> str:
    return f"{at.index}/{at.term}"


def _entries(entries: list[Entry]) -> str:
    """Each as index/term and content; a proposal has no position yet."""
    return ", ".join(" ".join(filter(None, (_position(entry) if entry.index else "", _content(entry)))) for entry in entries)


def _content(entry: Entry) -> str:
    return entry.data.decode() if entry.type == EntryType.NORMAL else _change(conf_change_in(entry))


def _change(change: ConfChange | ConfChangeV2) -> str:
    if isinstance(change, ConfChange):
        return f"{change.type.name.lower()} {change.node_id}"
    parts = [f"{kind.name.lower()} {member}" for kind, member in change.changes]
    return f"[{', '.join(parts)}]" if parts else "[leave]"


def _conf(conf: ConfState) -> str:
    parts = [f"voters {_ids(conf.voters)}"]
    for name in ("voters_outgoing", "learners", "learners_next"):
        if getattr(conf, name):
            parts.append(f"{name} {_ids(getattr(conf, name))}")
    return " ".join(parts) + (" auto_leave" if conf.auto_leave else "")


def _ids(ids: tuple[int, ...]) -> str:
    return ",".join(map(str, ids)) or "none"


def describe(message: Message) -> str:
    """`type to receiver: fields`."""
    kind = "".join(part.capitalize() for part in message.type.name.split("_"))
    return f"Msg{kind} to {message.to}:{_fields(message)}"


def _fields(message: Message) -> str:
    text = ""
    if message.term:
        text += f" term={message.term}"
    if message.type in (MessageType.APP, MessageType.VOTE, MessageType.PRE_VOTE):
        text += f" {'prev' if message.type is MessageType.APP else 'last'}={message.index}/{message.log_term}"
    elif message.index:
        text += f" index={message.index}"
    if message.entries:
        text += f" entries=[{_entries(message.entries)}]"
    if message.commit:
        text += f" commit={message.commit}"
    if message.snapshot is not None:
        text += f" snapshot={_position(message.snapshot)}"
    if message.reject:
        text += " reject"
    if message.reject_hint:
        text += f" hint={message.reject_hint}/{message.log_term}"
    if message.context:
        is_round = message.type in (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP)
        text += f" round={message.context[0]}" if is_round else f" {message.context.decode()}"
    return text


class Script:
    """The commands of one file: one method `do_...` each."""

    def __init__(self) -> None:
        self.cluster: ScriptedCluster

    def run(self, commands: list[str]) -> list[str]:
        before = self.cluster.lines if hasattr(self, "cluster") else []
        before.clear()
        for line in commands:
            name, *words = line.split()
            method: Callable[..., None] = getattr(self, f"do_{name.replace('-', '_')}")
            options = dict(word.split("=", 1) for word in words if "=" in word)
            try:
                method(*[word for word in words if "=" not in word], **options)
            except TercetError as error:
                self.say(f"{type(error).__name__}: {error}")
        return list(self.cluster.lines)

    def say(self, line: str) -> None:
        self.cluster.lines.append(line)

    def do_cluster(
        self, *, members: str, leader: str = "", learners: str = "", log: str = "", bootstrap: str = "no", **options: str
    ) -> None:
        """A cluster; the election of `leader` and the proposals of `log` are not recorded."""
        values = {name: value == "yes" if value in ("yes", "no") else int(value) for name, value in options.items()}
        ids = tuple(map(int, filter(None, learners.split(","))))
        if bootstrap == "yes":
            self.cluster = ScriptedCluster.bootstrapped(int(members), **values)
        else:
            self.cluster = ScriptedCluster.of(int(members), learners=ids, **values)
        for member in self.cluster.up():
            self.cluster.watch(member)
        if leader:
            self.cluster.elect(int(leader))
            for data in log.split(",") if log else []:
                self.cluster.propose(int(leader), data.encode())
                self.cluster.run()
            self.cluster.lines.clear()

    def do_join(self, member: str) -> None:
        self.cluster.watch(self.cluster.add(int(member)))

    def do_tick(self, member: str, count: str = "1") -> None:
        self.cluster.tick(int(member), int(count))

    def do_timeout(self, member: str) -> None:
        """Let the election timeout of the member pass; for a leader, the interval of the quorum check."""
        raft = self.cluster[int(member)]
        ticks = raft.config.election_ticks if raft.is_leader else raft.election_timeout
        self.cluster.tick(int(member), ticks - raft.election_elapsed)

    def do_lose_leader_lease(self, *members: str) -> None:
        """Let an election timeout pass without the leader, so that the members grant votes."""
        for member in members:
            self.cluster[int(member)].election_elapsed = self.cluster[int(member)].config.election_ticks

    def do_campaign(self, member: str) -> None:
        self.cluster.campaign(int(member))

    def do_propose(self, member: str, *data: str) -> None:
        if not self.cluster.propose(int(member), *[word.encode() for word in data]):
            self.say(f"node {member} drops the proposal")

    def do_turn(self, member: str, *data: str) -> None:
        """Several proposals in one turn, one call each."""
        for word in data:
            self.cluster[int(member)].propose([word.encode()])
        self.cluster.touch(int(member))

    def do_change(self, member: str, *changes: str, transition: str = "auto", v2: str = "no") -> None:
        """`+4` a voter, `~4` a learner, `-4` removed, `=4` updated; several, or v2=yes, are a ConfChangeV2."""
        kinds = {
            "+": ConfChangeType.ADD_NODE,
            "~": ConfChangeType.ADD_LEARNER_NODE,
            "-": ConfChangeType.REMOVE_NODE,
        }
        parts = tuple((kinds[change[0]], int(change[1:])) for change in changes)
        change: ConfChange | ConfChangeV2
        if len(parts) == 1 and v2 == "no":
            change = ConfChange(*parts[0])
        else:
            change = ConfChangeV2(parts, ConfChangeTransition[transition.upper()])
        if not self.cluster.propose_conf_change(int(member), change):
            self.say(f"node {member} drops the change")

    def do_read(self, member: str, context: str) -> None:
        if not self.cluster.read(int(member), context.encode()):
            self.say(f"node {member} drops the read")

    def do_broadcast_commit(self, member: str, index: str) -> None:
        """End the deferral of the commit of `index`."""
        self.cluster[int(member)].broadcast_commit(int(index))
        self.cluster.touch(int(member))

    def do_transfer(self, member: str, target: str) -> None:
        self.cluster[int(member)].transfer_leadership(int(target))
        self.cluster.touch(int(member))

    def do_run(self) -> None:
        self.cluster.run()

    def do_heartbeat(self, rounds: str = "1") -> None:
        self.cluster.heartbeat(int(rounds))

    def do_run_silently(self) -> None:
        """Deliver everything without recording it."""
        recorded = len(self.cluster.lines)
        self.cluster.run()
        del self.cluster.lines[recorded:]

    def do_deliver(self, count: str = "1") -> None:
        for _ in range(int(count)):
            if not self.cluster.network:
                self.say("no message is in flight")
                return
            self.cluster.deliver(self.cluster.network.popleft())

    def do_deliver_to(self, member: str) -> None:
        """Deliver the messages that are in flight to one member now."""
        now = [message for message in self.cluster.network if message.to == int(member)]
        for message in now:
            self.cluster.network.remove(message)
        for message in now:
            self.cluster.deliver(message)

    def do_drop(self, sender: str = "", to: str = "") -> None:
        """Lose the messages in flight, of one sender or receiver or all."""
        lost = [m for m in self.cluster.network if (not sender or m.from_ == int(sender)) and (not to or m.to == int(to))]
        for message in lost:
            self.cluster.network.remove(message)
            self.say(f"lost: node {message.from_} sends {describe(message)}")

    def do_cut(self, *members: str) -> None:
        self.cluster.cut |= {int(member) for member in members}

    def do_mend(self, *members: str) -> None:
        self.cluster.cut -= {int(member) for member in members}

    def do_stall(self, member: str) -> None:
        self.cluster.members[int(member)].is_stalled = True

    def do_sync(self, member: str, count: str = "") -> None:
        """Let a stalled disk finish `count` writes; without a count all of them, and end the stall."""
        it = self.cluster.members[int(member)]
        it.is_stalled = bool(count)
        for _ in range(int(count) if count else len(it.writes)):
            self.say(f"node {member} has completed a write")
            it.finish_write()
        it.settle()

    def do_crash(self, member: str) -> None:
        self.cluster.members[int(member)].crash()

    def do_restart(self, member: str) -> None:
        it = self.cluster.members[int(member)]
        it.is_stalled = False
        self.cluster._shown.pop(int(member), None)
        it.start()
        self.cluster.touch(int(member))

    def do_wipe(self, member: str) -> None:
        """Restart with an empty disk under the old id."""
        self.cluster.members[int(member)].crash()
        self.cluster._shown.pop(int(member), None)
        self.cluster.watch(self.cluster.add(int(member)))

    def do_compact(self, member: str, keep: str = "0") -> None:
        self.cluster.members[int(member)].compact(keep=int(keep))

    def do_unreachable(self, member: str, target: str) -> None:
        self.cluster[int(member)].report_unreachable(int(target))
        self.cluster.touch(int(member))

    def do_snapshot_report(self, member: str, target: str, outcome: str) -> None:
        self.cluster[int(member)].report_snapshot(int(target), outcome == "ok")
        self.cluster.touch(int(member))

    def do_step(self, member: str, kind: str, **fields: str) -> None:
        """Deliver a message made of these fields; `entries` as 5/2,6/2, or `data` without a position; `round` as a context."""
        message = Message(MessageType[kind.upper()], to=int(member), from_=int(fields.pop("sender", "0")))
        for name, value in fields.items():
            if name == "context":
                message.context = value.encode()
            elif name == "round":
                message.context = int(value).to_bytes(8, "little")
            elif name == "data":
                message.entries = [Entry(0, 0, value.encode())]
            elif name == "snapshot":
                index, at_term = value.split("/")
                message.snapshot = Snapshot(int(index), int(at_term), self.cluster[int(member)].conf_state, b"snapshot")
            elif name == "entries":
                positions = [item.split("/") for item in value.split(",")]
                message.entries = [Entry(int(term), int(index), b"x") for index, term in positions]
            else:
                setattr(message, name, value == "yes" if value in ("yes", "no") else int(value))
        self.cluster.deliver(message)

    def do_log(self, *members: str) -> None:
        for member in members or map(str, self.cluster.members):
            log = self.cluster[int(member)].log
            entries = _entries(log.entries(log.first_index, log.last_index + 1))
            start = f"after {log.snapshot_index}/{log.snapshot_term}: " if log.snapshot_index else ""
            self.say(f"node {member} log: {start}{entries or 'empty'}; commit {self.cluster[int(member)].commit_index}")

    def do_progress(self, member: str) -> None:
        for other, progress in self.cluster[int(member)].tracker.peers.items():
            if other != int(member):
                self.say(f"node {member} progress of {other}: {progress}, {progress.inflight_count} in flight")

    def do_configuration(self, *members: str) -> None:
        for member in members:
            self.say(f"node {member} configuration: {_conf(self.cluster[int(member)].conf_state)}")

    def do_applied(self, *members: str) -> None:
        for member in members:
            self.say(f"node {member} applied: {b' '.join(self.cluster.members[int(member)].applied).decode() or 'nothing'}")


def replay(text: str) -> str:
    """The script with its transcript recorded again."""
    script = Script()
    out: list[str] = []
    for stanza in text.strip().split("\n\n"):
        said, _, _ = stanza.partition("\n---")
        commands = [line for line in said.split("\n") if line and not line.startswith("#")]
        out.append(said if not commands else "\n".join([said, "---", *script.run(commands)]))
    return "\n\n".join(out) + "\n"


def main(arguments: list[str]) -> int:
    record = "--record" in arguments
    names = [argument for argument in arguments if not argument.startswith("--")]
    different = 0
    for path in sorted(SCRIPTS.iterdir()):
        if names and path.name not in names:
            continue
        before = path.read_text()
        after = replay(before)
        if after != before:
            different += 1
            sys.stdout.writelines(unified_diff(before.splitlines(True), after.splitlines(True), str(path), "now"))
            if record:
                path.write_text(after)
    return 0 if record else different


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
