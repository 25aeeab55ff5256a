"""New cluster files and docs/cluster-file.md are generated from the schema and complete."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tercet.deploy
from tercet.config.flag_table import FLAGS, RETIRED
from tercet.deploy.cluster.cluster_file import Cluster, parse
from tercet.deploy.cluster.document import SECTIONS, Document, HostEntry
from tercet.deploy.cluster.engine_flags import is_managed
from tercet.deploy.cluster.schema_page import page
from tercet.deploy.cluster.settings import EngineKind
from tercet.deploy.cluster.yaml_document import parse_yaml
from tercet.deploy.cluster.yaml_scalar import scalar
from tercet.deploy.draft.template import EXAMPLE_HOSTS, commented_template
from tests.support.waiting import scaled

ROOT = Path(__file__).parents[2]
ENGINES: tuple[EngineKind, ...] = ("tercet", "etcd")


def loaded(text: str) -> Cluster:
    return parse(text, Path("/srv/cluster.yaml"))


def test_the_page_is_up_to_date() -> None:
    current = (ROOT / "docs" / "cluster-file.md").read_text()
    assert current == page(), "python -m tercet.deploy.cluster.schema_page > docs/cluster-file.md"


def test_the_page_describes_every_field() -> None:
    text = page()
    for kind in (Document, HostEntry, *SECTIONS.values()):
        assert kind.__doc__
        for name, info in kind.__pydantic_fields__.items():  # type: ignore[attr-defined]
            if name not in SECTIONS or kind is HostEntry:
                assert info.description, f"{kind.__name__}.{name}"
                assert f"| {name} | " in text


def test_example_on_the_page_loads() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", page(), re.DOTALL)
    assert len(loaded(example).hosts) == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_template_loads_without_a_warning(engine: EngineKind) -> None:
    made = loaded(commented_template(engine=engine))
    assert [(host.name, host.address) for host in made.hosts] == list(EXAMPLE_HOSTS)
    assert (made.engine.kind, made.warnings) == (engine, ())


PARTNERS = {"ca_certificate": "ca_key", "ca_key": "ca_certificate", "to": "credentials", "credentials": "to"}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_template_has_every_field_with_its_default(engine: EngineKind) -> None:
    """Uncommenting any line gives a valid file, equal to the original if the line shows a default."""
    text = commented_template([("n1", "10.0.0.1"), ("n2", "10.0.0.2"), ("n3", "10.0.0.3")], name="demo", engine=engine)
    lines = text.splitlines()
    before = loaded(text)
    shown = set()
    section = ""
    for number, line in enumerate(lines):
        section = line[:-1] if re.fullmatch(r"[a-z]+:", line) else section if line.startswith(" ") else ""
        found = re.match(r"( *)# ([a-z0-9_-]+): ", line)
        shown.add((section, (found[2] if found else line.split(":")[0].strip())))
        if found is None or (section == "hosts" and not line.startswith("    #")):
            continue
        partner = f"# {PARTNERS.get(found[2], 'no partner')}:"
        edited = [
            re.sub(r"^( *)# ", r"\1", other) if position == number or partner in other[:30] else other
            for position, other in enumerate(lines)
        ]
        after = loaded("\n".join(edited))
        changed = {
            field.name
            for field in dataclasses.fields(Cluster)
            if field.name not in ("warnings", "ssh") and getattr(before, field.name) != getattr(after, field.name)
        }
        assert changed <= ({"hosts"} if section == "ssh" else {section or found[2]})
        if _has_default(section, found[2]):
            assert not changed, line
    for name, kind in (("", Document), *SECTIONS.items()):
        for field in dataclasses.fields(kind):
            assert (
                (name, field.name) in shown
                or field.name in SECTIONS
                or (name, field.name)
                in (
                    ("ssh", "host"),
                    ("", "hosts"),
                    ("", "flags"),
                )
            ), (name, field.name)


def _has_default(section: str, name: str) -> bool:
    kind = SECTIONS.get(section, Document)
    if section in ("flags", "hosts"):
        return False
    info = kind.__pydantic_fields__[name]  # type: ignore[attr-defined]
    return info.default is not None and info.default_factory is None


def test_template_lines_have_a_maximum_width() -> None:
    assert all(len(line) <= 120 for line in commented_template(engine="etcd").splitlines())


@given(
    st.text(max_size=20) | st.integers() | st.booleans() | st.sampled_from(["on", "1e3", "~", "0x1", "a: b", "12:30", "=", "-"])
)
def test_scalars_are_parsed_back_unchanged(value: str | int | bool) -> None:
    document = parse_yaml(f"a: {scalar(value)}\nb: [{scalar(value)}]\n".encode("utf-8", "surrogatepass"), Path("c.yaml"))
    assert document.value == {"a": value, "b": [value]}


def test_every_flag_of_the_server_is_either_managed_or_allowed() -> None:
    """Fails for a new flag of the server until it is classified."""
    free = {name for name in (*FLAGS, *RETIRED) if not is_managed(name)}
    about_listening_or_trust = {name for name in free if re.search(r"(^|-)urls?$|cert-file|key-file|ca-file|(^|-)dir$", name)}
    assert not about_listening_or_trust


def test_the_public_names_are_imported_lazily() -> None:
    code = "import sys, tercet.deploy as d; assert 'pydantic' not in sys.modules; print(*[getattr(d, n) for n in d.__all__])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=scaled(60), check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(AttributeError, match="has no attribute 'Loda'"):
        _ = tercet.deploy.Loda
