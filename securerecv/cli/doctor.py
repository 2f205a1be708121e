"""``securerecv doctor``: is everything as it should be, and if not, what to do."""

import click

from securerecv.cli.place import settings_of, with_options
from securerecv.errors import SecurerecvError


@click.command()
@with_options("data", "store", "scanner", "signatures", "max-file")
def doctor(**options: str | None) -> None:
    """Check the data folder, keys, permissions, store, clock and scanner."""
    from securerecv.checkup import checkup

    settings = settings_of(**options)
    ill = []
    for finding in checkup(settings):
        if not finding.is_well:
            ill.append(finding.what)
        mark = click.style("ok  ", fg="green") if finding.is_well else ""
        mark = mark or click.style("mend", fg="red", bold=True)
        click.echo(f"{mark} {finding.what}: {finding.words}")
    if ill:
        raise SecurerecvError(f"to be mended: {', '.join(ill)}")
