"""completion: scripts that complete commands, flags and their values in bash, zsh, fish and PowerShell.

The words are written into the script, from the tree of commands: completing needs no start of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


def complete(session: Session, arguments: list[str]) -> None:
    """Print the script for the shell that the argument names."""
    if len(arguments) != 1:
        raise CommandError(Exit.ERROR, f"accepts 1 arg(s), received {len(arguments)}")
    if arguments[0] not in _SHELLS:
        raise CommandError(Exit.ERROR, f'invalid argument "{arguments[0]}" for "{session.root.name} completion"')
    session.out.write(_SHELLS[arguments[0]](session.root).encode())


def _nodes(command: Command, path: str = "", inherited: tuple[str, ...] = ()) -> Iterator[tuple[str, list[Command], list[str]]]:
    """Every command as (words that lead to it, its subcommands, its flags with those it inherits)."""
    flags = (*inherited, *(f"--{flag.name}" for flag in command.flags))
    children = [child.loaded() for child in command.commands]
    yield path, children, sorted({*flags, "--help"})
    for child in children:
        yield from _nodes(child, f"{path} {child.name}".strip(), flags)


def _choices(command: Command) -> dict[str, tuple[str, ...]]:
    """The values of flags that take one of a few."""
    found = {f"--{flag.name}": flag.choices for flag in command.flags if flag.choices}
    found |= {f"-{flag.short}": flag.choices for flag in command.flags if flag.choices and flag.short}
    for child in command.commands:
        found |= _choices(child.loaded())
    return found


def _bash(root: Command) -> str:
    name = root.name
    words = "\n".join(
        f"    ['{_bash_path(path)}']='{' '.join([*(child.name for child in children), *flags])}'"
        for path, children, flags in _nodes(root)
    )
    values = "\n".join(f"    ['{flag}']='{' '.join(choices)}'" for flag, choices in _choices(root).items())
    return f"""# bash completion for {name}: source <({name} completion bash)
declare -A _{name}_words=(
{words}
)
declare -A _{name}_values=(
{values}
)
_{name}() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" path=. next word
    if [[ -n "${{_{name}_values[$before]:-}}" ]]; then
        COMPREPLY=($(compgen -W "${{_{name}_values[$before]}}" -- "$current"))
        return
    fi
    for word in "${{COMP_WORDS[@]:1:$((COMP_CWORD-1))}}"; do
        next="$path $word"
        [[ "$word" != -* && -n "${{_{name}_words[$next]+set}}" ]] && path="$next"
    done
    COMPREPLY=($(compgen -W "${{_{name}_words[$path]}}" -- "$current"))
}}
complete -o default -F _{name} {name}
"""


def _bash_path(path: str) -> str:
    """The key of a command; that of the root cannot be empty."""
    return f". {path}".strip()


def _zsh(root: Command) -> str:
    name = root.name
    return f"""#compdef {name}
# zsh completion for {name}: source <({name} completion zsh), or a file _{name} on $fpath
autoload -U +X bashcompinit && bashcompinit
{_bash(root)}"""


def _fish(root: Command) -> str:
    name = root.name
    lines = [f"# fish completion for {name}: {name} completion fish | source", f"complete -c {name} -f"]
    for path, children, _ in _nodes(root):
        words = path.split()
        names = " ".join(child.name for child in children)
        condition = " ; and ".join([f"__fish_seen_subcommand_from {word}" for word in words] or ["__fish_use_subcommand"])
        if children and words:
            condition += f" ; and not __fish_seen_subcommand_from {names}"
        lines += [f"complete -c {name} -n '{condition}' -a {child.name} -d '{_quoted(child.summary)}'" for child in children]
    for path, command in _commands(root):
        condition = " ; and ".join(f"__fish_seen_subcommand_from {word}" for word in path.split())
        for flag in command.flags:
            line = f"complete -c {name} -l {flag.name} -d '{_quoted(flag.help)}'"
            line += f" -s {flag.short}" if flag.short else ""
            line += f" -n '{condition}'" if condition else ""
            line += (f" -x -a '{' '.join(flag.choices)}'" if flag.choices else " -r") if flag.takes_value else ""
            lines.append(line)
    return "\n".join(lines) + "\n"


def _commands(command: Command, path: str = "") -> Iterator[tuple[str, Command]]:
    """The root, all groups, whose flags their commands inherit, and all commands, each with its path."""
    yield path, command
    for child in command.commands:
        yield from _commands(child.loaded(), f"{path} {child.name}".strip())


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _powershell(root: Command) -> str:
    name = root.name
    words = "\n".join(
        f"    '{path}' = @({', '.join(repr(word) for word in [*(child.name for child in children), *flags])})"
        for path, children, flags in _nodes(root)
    )
    values = "\n".join(
        f"    '{flag}' = @({', '.join(repr(choice) for choice in choices)})" for flag, choices in _choices(root).items()
    )
    return f"""# PowerShell completion for {name}: {name} completion powershell | Out-String | Invoke-Expression
$_{name}Words = @{{
{words}
}}
$_{name}Values = @{{
{values}
}}
Register-ArgumentCompleter -Native -CommandName '{name}' -ScriptBlock {{
    param($current, $line, $position)
    $words = $line.CommandElements | Select-Object -Skip 1 | ForEach-Object {{ $_.ToString() }}
    $before = @($words | Where-Object {{ $_ -ne $current }})
    if ($before.Count -gt 0 -and $_{name}Values.ContainsKey($before[-1])) {{
        $found = $_{name}Values[$before[-1]]
    }} else {{
        $path = ''
        foreach ($word in $before) {{
            $next = "$path $word".Trim()
            if ($_{name}Words.ContainsKey($next)) {{ $path = $next }}
        }}
        $found = $_{name}Words[$path]
    }}
    $found | Where-Object {{ $_ -like "$current*" }} |
        ForEach-Object {{ [System.Management.Automation.CompletionResult]::new($_) }}
}}
"""


_SHELLS: dict[str, Callable[[Command], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish, "powershell": _powershell}

COMPLETION = Command(
    "completion",
    "Print a completion script for a shell",
    "[bash|zsh|fish|powershell]",
    run=complete,
    description=(
        "bash:        source <(tercetctl completion bash)                 in ~/.bashrc\n"
        "zsh:         source <(tercetctl completion zsh)                  in ~/.zshrc, after compinit\n"
        "fish:        tercetctl completion fish > ~/.config/fish/completions/tercetctl.fish\n"
        "PowerShell:  tercetctl completion powershell | Out-String | Invoke-Expression"
    ),
)
