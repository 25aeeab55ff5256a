"""`tercet pki age-key`: a key pair for encrypted backups."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    name="age-key",
    short_help="Create a key for encrypted backups.",
    epilog="""\b
The file is one of age: `age --decrypt -i FILE` reads what is encrypted to the printed recipient. Keep it away from the
backups, and keep a copy: without it they are useless.
  tercet pki age-key -o backup.key
  tercet deploy backup --encrypt-to age1...""",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File for the secret key, mode 0600.")
def age_key(output: Path) -> None:
    """Create a key pair of age, and print its public half, the recipient. An existing file is kept."""
    from tercet.pki.age import new_key
    from tercet.pki.files import KEY_MODE, create

    key = new_key()
    try:
        # On disk before a backup can be encrypted to it, and whole: an incomplete file would be kept as if it were a key.
        create(output, f"# recipient: {key.recipient}\n{key.secret}\n".encode(), mode=KEY_MODE)
    except FileExistsError as error:
        text = "already exists, and is kept, since backups may be encrypted to it; set another name"
        raise click.ClickException(f"{output}: {text}") from error
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror}") from error
    click.echo(key.recipient)
